"""Our recommender through its public `train`; an epoch's time includes the checkpoint that `train` writes after it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from common import EPOCHS, HELD, ITEMS, JOB, OFFSETS, SEQUENCE, USERS

from llmser_tasks.core.config import Recommender
from llmser_tasks.recommenders import Watch, WeightedTerm, train
from llmser_tasks.recommenders.loop.checkpoints import load, save_description
from llmser_tasks.recommenders.topk import encode
from llmser_tasks.sequences.histories import Histories

FOLDER = Path("model")


class Stopped(Exception):
    """Nobody wants another epoch."""


def states() -> tuple[torch.Tensor, torch.Tensor]:
    model = load(FOLDER)
    with torch.inference_mode():
        everything = model.item_table.everything()
    table = everything.vectors[1 : model.items + 1]
    held = Histories(histories.users, np.concatenate([[0], np.cumsum(HELD > 0)]), HELD[HELD > 0])
    return torch.cat([encode(model, shown, everything) for shown in (histories, histories.then(held))]), table


def after_epoch(*_: object) -> None:
    if not EPOCHS.end(states):
        raise Stopped
    EPOCHS.begin()


if __name__ == "__main__":
    histories = Histories(np.arange(USERS, dtype=np.int32), OFFSETS, SEQUENCE)
    nobody = Histories.of([], [])
    known = Recommender.model_fields
    config = Recommender(**{name: value for name, value in JOB.items() if name in known}, max_length=JOB["max_len"])
    FOLDER.mkdir()
    save_description(FOLDER, config, ITEMS, {})  # `train` writes it at the end only, but weights after every epoch
    EPOCHS.ready("llmser")
    EPOCHS.begin()
    with suppress(Stopped):
        watch = Watch(nobody, np.zeros(0, np.int32), nobody)
        terms = [WeightedTerm(histories)]
        train(config, terms, ITEMS, JOB["seed"], FOLDER, watch=watch, progress=after_epoch, device="cpu")
