import itertools
import threading
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from pipeline.analysis.evaluation import evaluate
from pipeline.models.metrics import ACCURACY, LOSS
from pipeline.report import figures as plots
from pipeline.report.figures.colours import STYLES
from pipeline.report.figures.learning import landscape
from pipeline.report.figures.predictions import confusion
from tests.study import NASTY, failed, predictions, search, trial

pytestmark = pytest.mark.filterwarnings("error")


def _texts(figure):
    root = ElementTree.fromstring(plots.svg(figure, "x"))
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


SEARCHES = {
    "usual": search(trials=24),
    "many optimizers": search(list(STYLES), 60, epochs=10),
    "one optimizer": search(("SGD",), 5),
    "learning rate 0": [trial(0, lr=0.0), trial(1), trial(2, lr=0.1)],
    "learning rates of many decades": [trial(i, lr=10.0 ** (i - 12)) for i in range(15)],
    "failed at learning rate 0": [trial(0), failed(1, lr=0.0), trial(2, lr=0.1)],
    "pruned without scores": [trial(0), trial(1, state="PRUNED", scores={}), trial(2, lr=0.1)],
    "unknown optimizer": search((NASTY, "_hidden"), 6),
}


@pytest.mark.parametrize(
    ("case", "metric"), [*((case, ACCURACY) for case in SEARCHES), ("usual", LOSS)]
)
def test_learning_rates_of_any_search(case, metric):
    figure = landscape(SEARCHES[case], metric)
    texts = _texts(figure)
    assert texts
    assert not any("nan" in text.lower().split() for text in texts)


def test_a_file_has_the_heading_on_white_and_a_page_its_own():
    plot = landscape(search(trials=6), ACCURACY)
    texts = [
        "".join(node.itertext())
        for node in ElementTree.fromstring(plot.drawn).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert plot.title in texts
    assert plot.title not in _texts(plot)
    assert set(_texts(plot)) <= set(texts)
    assert 'id="paper"' in plot.drawn
    assert "#ffffff" in plot.drawn.partition('id="paper"')[2][:200]
    assert "paper" not in plots.svg(plot, "x")
    ElementTree.fromstring(plots.svg(plot, "x"))


def test_same_figure_same_bytes():
    first, second = (landscape(search(trials=10), ACCURACY) for _ in range(2))
    assert first.drawn == second.drawn
    assert plots.svg(first, "a") == plots.svg(second, "a")


def test_optimizers_keep_their_colour_and_marker():
    styles = [plots.optimizer_style(name) for name in STYLES]
    assert len({color for color, _ in styles}) == len({marker for _, marker in styles}) == 12
    assert plots.optimizer_style("Mine") == plots.optimizer_style("Mine")


def _seen_by_deuteranopes(color):
    """sRGB -> linear RGB as a reader without M cones sees it; Machado et al. (2009), severity 1."""
    matrix = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    )  # fmt: skip
    return matrix @ np.array(matplotlib.colors.to_rgb(color))


def test_usual_optimizers_are_told_apart_by_colour_blind_readers():
    names = ["SGD", "Adagrad", "RMSprop", "Adam"]
    colors = [_seen_by_deuteranopes(plots.optimizer_style(name)[0]) for name in names]
    for i, color in enumerate(colors):
        for other in colors[:i]:
            assert np.linalg.norm(color - other) > 0.2


@pytest.mark.parametrize("name", STYLES)
def test_further_optimizers_of_a_class_are_told_apart(name):
    """By a colour each, of the class's hue; the class's marker is its own."""
    labels = [name, f"{name} momentum=0.9", f"{name} momentum=0.9 nesterov=true"]
    styles = [plots.optimizer_style(label) for label in labels]
    assert styles[0][1] not in {marker for _, marker in styles[1:]}
    rgb = [np.array(matplotlib.colors.to_rgb(color)) for color, _ in styles]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(rgb, 2)) > 0.2
    hues = [matplotlib.colors.rgb_to_hsv(color)[0] for color in rgb]
    assert np.ptp(np.unwrap(hues, period=1)) < 0.02


def test_an_unknown_optimizer_is_not_taken_for_one_of_torch():
    for label in ("Lion", "nets.Mine", "warm restarts", "", " SGD"):
        assert plots.optimizer_style(label) == plots.optimizer_style(label)
        assert plots.optimizer_style(label) not in STYLES.values()
    styles = {plots.optimizer_style(f"Optimizer{i}") for i in range(12)}
    assert len(styles) > 9  # of about 100


@pytest.mark.parametrize("labels", [2, 3, 5, 20])
def test_evaluation_figures(labels):
    evaluation = evaluate(*predictions(labels, 400))
    names = [f"label {i}" for i in range(labels)]
    figures = plots.evaluation_figures(evaluation, names)
    assert list(figures) == ["confusion", "calibration"]
    counts = evaluation.scores.confusion
    written = [int(text) for text in _texts(figures["confusion"]) if text.isdigit()]
    assert sorted(written) == sorted(counts[counts > 0].tolist())


@pytest.mark.parametrize("labels", [2, 4])
def test_evaluation_figures_of_a_single_row_and_label(labels):
    evaluation = evaluate(np.full((1, labels), 1 / labels), np.array([0]))
    for figure in plots.evaluation_figures(evaluation, list(range(labels))).values():
        assert _texts(figure)


def test_many_labels_and_rows_stay_small():
    evaluation = evaluate(*predictions(2, 20_000))
    for figure in plots.evaluation_figures(evaluation, ["no", "yes"]).values():
        assert len(plots.svg(figure, "x")) < 75_000


def test_text_of_the_data_is_text():
    labels = [NASTY, "_x", "日本語\n\x1b[31m"]
    evaluation = evaluate(*predictions(3, 60))
    for name, figure in plots.evaluation_figures(evaluation, labels).items():
        drawing = plots.svg(figure, name)
        assert "<script" not in drawing
        assert "\x1b" not in drawing
        texts = " ".join(_texts(figure))
        if name == "confusion":
            assert "<script>alert(" in texts
            assert "日本語" in texts
            assert "_x" in texts
    dollars = confusion(evaluation.scores, ["$a$", "$", "b$c$"])
    assert {"$a$", "$", "b$c$"} <= set(_texts(dollars))


def test_svg_ids():
    trials = search(("SGD", "SGD momentum=0.9", "SGD momentum=0.9 nesterov=true"), 8)
    drawing = plots.svg(landscape(trials, ACCURACY), "one")
    root = ElementTree.fromstring(drawing)
    ids = [node.attrib["id"] for node in root.iter() if "id" in node.attrib]
    assert ids
    assert all(name.startswith("one-") for name in ids)
    references = [
        value
        for node in root.iter()
        for key, value in node.attrib.items()
        if key.endswith("href") or "url(#" in value
    ]
    assert all("#one-" in value for value in references)


def test_drawing_leaves_no_global_state():
    before = dict(matplotlib.rcParams)
    plot = landscape(search(trials=6), ACCURACY)
    assert plots.svg(plot, "x").startswith("<svg")
    assert dict(matplotlib.rcParams) == before


def test_drawing_in_a_thread():
    made = []
    thread = threading.Thread(
        target=lambda: made.append(landscape(search(trials=6), ACCURACY).drawn)
    )
    thread.start()
    thread.join()
    assert made == [landscape(search(trials=6), ACCURACY).drawn]


def test_too_many_labels_have_no_matrix():
    figures = plots.evaluation_figures(evaluate(*predictions(31, 400)), range(31))
    assert list(figures) == ["calibration"]


def test_probabilities_that_are_off_are_called_so():
    names = ["no", "yes"]
    well = plots.evaluation_figures(evaluate(*predictions(2, 2000)), names)["calibration"]
    assert well.title == "No sign that probabilities are off, in 10 groups of rows"
    off = evaluate(*predictions(2, 2000, sharpness=4.0))
    title = plots.evaluation_figures(off, names)["calibration"].title
    assert off.calibration.off > 2
    assert (
        title
        == f"Probabilities are off in {off.calibration.off} of 10 groups of rows, beyond chance"
    )
