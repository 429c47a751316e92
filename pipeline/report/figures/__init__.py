"""The figures of a run: each says in its title what is seen in it.

Every function returns a `Plot` that belongs to nobody else: pyplot and its global state are not
used. `savefig` draws it on white at twice the screen's resolution, `svg` for a page whose style
sheet holds `css_variables`, so that one drawing serves light and dark."""

from pipeline.report.figures.colours import css_name as css_name
from pipeline.report.figures.colours import css_variables as css_variables
from pipeline.report.figures.colours import optimizer_style as optimizer_style
from pipeline.report.figures.final import evidence_figures as evidence_figures
from pipeline.report.figures.learning import search_figures as search_figures
from pipeline.report.figures.plot import Plot as Plot
from pipeline.report.figures.plot import svg as svg
from pipeline.report.figures.predictions import evaluation_figures as evaluation_figures
