"""Which trials are trained together."""

from pipeline.search.search import Search
from pipeline.training.trainer import stacks
from tests.toy_search import RICH, make


def test_trials_share_a_stack_unless_they_differ_in_what_all_of_it_has_alike() -> None:
    """Dropout and patience are searched too, and part nothing."""
    search = Search(make(**RICH, sampler="random", trials=40))
    batch = search.ask()
    assert len({proposal.config.model.dropout for proposal in batch}) > 1
    groups = stacks(batch)
    shapes = [
        {(p.config.model.hidden, p.config.training.batch_size) for p in group} for group in groups
    ]
    assert all(len(shape) == 1 for shape in shapes)
    assert len(set.union(*shapes)) == len(groups) > 1
    numbers = [proposal.number for group in groups for proposal in group]
    assert sorted(numbers) == [proposal.number for proposal in batch]
    assert all(group == sorted(group, key=lambda p: p.number) for group in groups)
