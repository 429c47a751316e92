"""How many trials: in a batch, and of each entry of `optimizers`."""

from pipeline.config import Config
from pipeline.search.space import Space


def batch_size(config: Config) -> int:
    """Trials that are asked at once: with five folds 8, or 40 members."""
    members: int = config.validation.folds * config.validation.repeats
    return max(8, 32 // members)


def quota(config: Config, space: Space) -> tuple[int, ...] | None:
    """How many trials each entry may have, with equal budgets; None where they share one.

    What the budget leaves over goes to the first entries, one each. An entry with fewer points than
    its share has a trial for each of them; the others get no more for that.
    """
    if config.search.budget == "shared":
        return None
    share, rest = divmod(config.search.trials, len(space.branches))
    shares = [share + (branch.entry < rest) for branch in space.branches]
    return tuple(
        one if branch.size is None else min(one, branch.size)
        for one, branch in zip(shares, space.branches, strict=True)
    )
