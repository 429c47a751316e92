"""What each command of the command line does, and the words that a configuration may hold where
other rooms own them."""

from collections.abc import Mapping, Sequence

from pipeline.models.activations import ACTIVATIONS
from pipeline.models.metrics import METRICS

NAMES: Mapping[str, Sequence[str]] = {
    "model.activation": tuple(ACTIVATIONS),
    "search.objective": tuple(metric.curve for metric in METRICS.values()),
}
"""By dotted path. Importing this loads neither torch nor MLflow: a wrong file is answered first."""
