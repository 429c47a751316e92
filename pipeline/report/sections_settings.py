"""The section of the page about the settings that were searched beside optimizer and rate."""

from collections import Counter
from collections.abc import Sequence

from pipeline.analysis.importance import LEAST_TRIALS, Importance, Searched
from pipeline.analysis.ranking import TrialResult, best_per_optimizer, completed
from pipeline.common import text as formats
from pipeline.report.markup import Safe, element
from pipeline.report.page_parts import details, figure_columns, note, table
from pipeline.report.words import Report
from pipeline.search.settings import LEARNING_RATE, Setting, value_text

LIMITS = (
    "Importance is of the ranges that were given: a wider range matters more. It does not say "
    "which value is best, and how settings act together is in none of the shares. Trials that "
    "failed count as the worst."
)


def settings(report: Report) -> Safe:
    """Which setting mattered; nothing where only optimizer and learning rate were searched."""
    searched = report.searched
    if searched is None or not searched.others or not completed(report.trials):
        return Safe("")
    drawn = [
        [(name, report.figures[name]) for name in names if name in report.figures]
        for names in (("importances", "parallel"), ("slices",))
    ]
    head = ["Setting", "Importance", "By chance up to", "Best trial", "Searched"]
    found = {one.setting.label: one for one in searched.importances if one.optimizer is None}
    if not found:
        del head[1:3]
    if len(searched.best) > 1:
        head.insert(-1, f"Best {len(searched.best)} trials")
    rows = [
        _row(setting, found.get(setting.label), searched.best) for setting in _ordered(searched)
    ]
    limits = _limits(searched, len(completed(report.trials)))
    return element(
        "section",
        element("h2", "Which settings matter"),
        figure_columns(*drawn),
        table(head, rows),
        note(limits) if limits else Safe(""),
        _best_of_each(searched, report.trials),
    )


def _ordered(searched: Searched) -> list[Setting]:
    """The most important first; as in the configuration without importances."""
    ranked = [one.setting for one in searched.importances if one.optimizer is None]
    return ranked or list(searched.settings)


def _row(setting: Setting, found: Importance | None, best: Sequence[TrialResult]) -> list[str]:
    shares = [formats.percent(found.share), formats.percent(found.chance)] if found else []
    values = [_values(setting, best)] if len(best) > 1 else []
    return [setting.label, *shares, _values(setting, best[:1]), *values, _range(setting)]


def _range(setting: Setting) -> str:
    """What was searched: `0.2, 0.4`, `0.001 to 1 (log)`."""
    if setting.categorical:
        values = [value_text(value) for value in setting.axis.values or ()]
        return formats.shorten(", ".join(values), 60)
    ranges = {(axis.low, axis.high, axis.log) for axis in setting.axes.values()}
    if len(ranges) > 1:
        return "by optimizer"
    ((low, high, log),) = ranges
    return f"{value_text(low)} to {value_text(high)}{' (log)' if log else ''}"


def _values(setting: Setting, trials: Sequence[TrialResult]) -> str:
    """The values of these trials: from the lowest to the highest, or the most frequent ones."""
    values = [setting.value(trial) for trial in trials if setting.has(trial)]
    if not values:
        return "–"
    if setting.categorical:
        counts = Counter(value_text(value) for value in values).most_common(2)
        if len(values) == 1:
            return counts[0][0]
        return ", ".join(f"{text} ({times} of {len(values)})" for text, times in counts)
    low, high = value_text(min(values)), value_text(max(values))
    return low if low == high else f"{low} to {high}"


def _limits(searched: Searched, done: int) -> str:
    if len(searched.settings) < 2:
        return ""  # there is nothing that it could matter more than
    if not searched.importances:
        few = f"this search has {done}" if done < LEAST_TRIALS else "here all scores are alike"
        return (
            f"Importances are shown from {LEAST_TRIALS} completed trials on, since with fewer "
            f"even a strong effect is often missed; {few}."
        )
    rest = 1 - sum(one.share for one in searched.importances if one.optimizer is None)
    left = formats.percent(max(rest, 0.0), 0)
    text = f"{LIMITS} What is left to 100 %, here {left}, is that and noise."
    if any(trial.state == "PRUNED" for trial in searched.trials):
        text += " Pruned trials are left out."
    return text


def _best_of_each(searched: Searched, trials: Sequence[TrialResult]) -> Safe:
    """The settings of the best trial of each optimizer."""
    best = best_per_optimizer(trials, searched.objective)
    if len(best) < 2:
        return Safe("")
    columns = [s for s in searched.settings if s.name == LEARNING_RATE] + searched.others
    head = ["Optimizer", *[setting.label for setting in columns], "Trial"]
    rows = [
        [
            trial.optimizer,
            *[value_text(s.value(trial)) if s.has(trial) else "–" for s in columns],
            str(trial.number),
        ]
        for trial in best
    ]
    return details("The best settings of each optimizer", table(head, rows, optimizers=1))
