"""Sequential recommenders under one interface: train them, load them, rank with them."""

from llmser_tasks.recommenders.checkpoints import load
from llmser_tasks.recommenders.job import TrainingSummary, Watch
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.topk import ranks, sampled_ranks, top_k
from llmser_tasks.recommenders.training import train
from llmser_tasks.recommenders.warm_start import match_items

__all__ = ["Model", "TrainingSummary", "Watch", "load", "match_items", "ranks", "sampled_ranks", "top_k", "train"]
