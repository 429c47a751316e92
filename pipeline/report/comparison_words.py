"""The comparison of the final round in one plain sentence."""

from collections.abc import Sequence

from pipeline.analysis.comparison import Pair
from pipeline.analysis.evidence import Evidence
from pipeline.analysis.ranking import Objective
from pipeline.common import text as formats


def comparison_sentence(evidence: Evidence) -> str:
    """Which optimizers cannot be told apart, which are beaten and by how much.

    By the intervals that hold for all pairs together with 95 %.
    """
    winner = evidence.winner
    diverged = [one.optimizer for one in evidence.finalists if not one.completed]
    if winner is None:
        return "Every optimizer diverged in the final round, so there is nothing to compare."
    lost = ""
    if diverged:
        lost = f"; {formats.listing(diverged)} diverged there"
    own = [pair for pair in evidence.pairs if pair.better == winner.optimizer]
    if not own:
        return f"No other optimizer is there to compare {winner.optimizer} with{lost}."
    level = [winner.optimizer, *[pair.worse for pair in own if not pair.is_clear]]
    beaten = [pair.worse for pair in own if pair.is_clear]
    text = ""
    if len(level) > 1:
        text = f"{formats.listing(level)} cannot be told apart on this table"
    if beaten:
        text += "; " if text else ""
        text += _beaten(evidence, level, beaten)
    together = f"95 % intervals for all {len(evidence.pairs)} comparisons together"
    return f"{text}{lost} ({together if len(evidence.pairs) > 1 else '95 % interval'})."


def _beaten(evidence: Evidence, level: Sequence[str], beaten: Sequence[str]) -> str:
    """Those at the top against those behind: all of them when each beats each, else the winner."""
    crossed = [evidence.pair(top, bottom) for top in level for bottom in beaten]
    found = [pair for pair in crossed if pair is not None]
    who = formats.listing(list(level))
    if not all(pair.is_clear for pair in found):
        found, who = [pair for pair in found if pair.better == level[0]], level[0]
    elif len(level) == 2:
        who = "both"
    elif len(level) > 2:
        who = f"all {len(level)}"
    verb = "beats" if len(level) == 1 or who == level[0] else "beat"
    return f"{who} {verb} {formats.listing(list(beaten))} by {_span(found, evidence.objective)}"


def _span(pairs: Sequence[Pair], objective: Objective) -> str:
    low, high = min(pair.low_all for pair in pairs), max(pair.high_all for pair in pairs)
    if objective == "val_loss":
        return f"{low:.3f} to {high:.3f} nats"
    return f"{100 * low:.1f} to {100 * high:.1f} points"
