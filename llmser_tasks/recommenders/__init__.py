"""Sequential recommenders under one interface: train them, load them, rank with them."""

from llmser_tasks.recommenders.checkpoints import load
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.topk import ranks, sampled_ranks, top_k
from llmser_tasks.recommenders.training import TrainingSummary, Watch, train

__all__ = ["Model", "TrainingSummary", "Watch", "load", "ranks", "sampled_ranks", "top_k", "train"]
