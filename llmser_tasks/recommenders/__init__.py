"""Sequential recommenders under one interface: train them, load them, rank with them."""

from llmser_tasks.recommenders.loop.checkpoints import load
from llmser_tasks.recommenders.loop.job import TrainingSummary, Watch
from llmser_tasks.recommenders.loop.training import train
from llmser_tasks.recommenders.loop.warm_start import match_items
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.topk import ranks, sampled_ranks, top_k

__all__ = ["Model", "TrainingSummary", "Watch", "load", "match_items", "ranks", "sampled_ranks", "top_k", "train"]
