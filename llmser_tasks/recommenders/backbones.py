"""The one place that knows every backbone."""

from __future__ import annotations

from collections.abc import Callable

from llmser_tasks.config import Backbone, Recommender
from llmser_tasks.recommenders.bert4rec import BERT4Rec
from llmser_tasks.recommenders.gru4rec import GRU4Rec
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.sasrec import SASRec

BACKBONES: dict[Backbone, Callable[[Recommender, int], Model]] = {
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
    "bert4rec": BERT4Rec,
}


def make_model(config: Recommender, items: int) -> Model:
    """A fresh model of the configured backbone for the items 1 … `items`; torch's global seed decides its weights."""
    return BACKBONES[config.backbone](config, items)
