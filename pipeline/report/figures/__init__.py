"""The figures of a run: each says in its title what is seen in it.

Every function returns a `Plot` that belongs to nobody else: pyplot and its global state are not
used. `drawn` is it on white, as a file, `svg` without ground and heading, for a page
whose style sheet turns its colours round where the page is dark."""

from pipeline.report.figures.colours import optimizer_style as optimizer_style
from pipeline.report.figures.final import final_scores as final_scores
from pipeline.report.figures.learning import landscape as landscape
from pipeline.report.figures.plot import Plot as Plot
from pipeline.report.figures.plot import svg as svg
from pipeline.report.figures.predictions import evaluation_figures as evaluation_figures
