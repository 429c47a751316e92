"""The search: batches of trials asked of Optuna, and what became of them told back."""

from pipeline.search.budget import batch_size
from pipeline.search.proposals import Proposal, Told
from pipeline.search.search import Search

__all__ = ["Proposal", "Search", "Told", "batch_size"]
