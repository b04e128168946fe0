"""RecTools' SASRecModel. Losses: bce (one negative per position), sampled-softmax, and softmax, its default: all items.

The variant is how many negatives its sampled softmax draws for each position.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from common import EPOCHS, ITEMS, JOB, SEQUENCE, contexts, owners, places, plain_attention
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

LOSSES = {"bce": "BCE", "sampled-softmax": "sampled_softmax", "softmax": "softmax"}


def states() -> tuple[torch.Tensor, torch.Tensor]:
    torch_model = model.torch_model.eval()
    embeddings = torch_model.item_model.get_all_embeddings()
    internal = pd.Series(np.arange(len(embeddings)), model.data_preparator.item_id_map.external_ids)
    internal = internal.drop("PAD").reindex(range(1, ITEMS + 1))
    known = internal.notna().to_numpy()
    table = torch.full((ITEMS, embeddings.shape[1]), torch.nan)
    table[known] = embeddings[internal[known].to_numpy(np.int64)]
    numbers = torch.from_numpy(np.concatenate([[0], internal.fillna(0).to_numpy(np.int64)]))
    tokens = numbers[contexts(left_padded=True)[0]]
    rows = [torch_model.encode_sessions({"x": part}, embeddings)[:, -1] for part in tokens.split(512)]
    return torch.cat(rows), table


class Clock(Callback):
    """Around every epoch."""

    def on_train_start(self, _trainer, module) -> None:
        plain_attention(module)
        EPOCHS.ready("rectools")

    def on_train_epoch_start(self, _trainer, module) -> None:
        module.train()
        EPOCHS.begin()

    def on_train_epoch_end(self, trainer, _module) -> None:
        trainer.should_stop = not EPOCHS.end(states)


def trainer() -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(
        max_epochs=JOB["epochs"], accelerator="cpu", enable_checkpointing=False, callbacks=[Clock()], **quiet
    )


if __name__ == "__main__":
    interactions = pd.DataFrame(
        {
            Columns.User: owners(),
            Columns.Item: SEQUENCE,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.Timestamp("2020-01-01") + pd.to_timedelta(places(), unit="s"),
        }
    )
    model = SASRecModel(
        n_blocks=JOB["layers"],
        n_heads=JOB["heads"],
        n_factors=JOB["dimension"],
        dropout_rate=JOB["dropout"],
        session_max_len=JOB["max_len"],
        loss=LOSSES[JOB["loss"]],
        n_negatives=int(JOB["variant"] or 1),
        lr=JOB["learning_rate"],
        batch_size=JOB["batch_size"],
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(interactions))
