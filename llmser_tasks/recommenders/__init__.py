"""Sequential recommenders under one interface: train them, load them, rank with them."""

from llmser_tasks.recommenders.added import Added
from llmser_tasks.recommenders.loop.checkpoints import load
from llmser_tasks.recommenders.loop.early_stopping import Watch
from llmser_tasks.recommenders.loop.inputs import TrainingSummary
from llmser_tasks.recommenders.loop.training import train
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.terms.term import WeightedTerm
from llmser_tasks.recommenders.topk import ranks, ranks_by_share, sampled_ranks, top_k

__all__ = [
    "Added",
    "Model",
    "TrainingSummary",
    "Watch",
    "WeightedTerm",
    "load",
    "ranks",
    "ranks_by_share",
    "sampled_ranks",
    "top_k",
    "train",
]
