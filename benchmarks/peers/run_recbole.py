"""RecBole's SASRec. Losses: bce (one negative per target) and ce, its default, over all items.

RecBole makes a sequence of its own of every prefix of a history and learns its last item alone, so an epoch has as many
rows as there are targets; a batch of 128 is 128 prefixes. It has no BCE: its BPR's two scores go into BCE here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import EPOCHS, ITEMS, JOB, MAX_LEN, SEQUENCE, contexts, owners, places
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.utils import create_samplers, get_dataloader
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from torch.nn.functional import softplus

SETTINGS = {
    "data_path": str(Path.cwd()),
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": MAX_LEN,
    "n_layers": JOB["layers"],
    "n_heads": JOB["heads"],
    "hidden_size": JOB["dimension"],
    "inner_size": JOB["dimension"],
    "hidden_act": "relu",
    "hidden_dropout_prob": JOB["dropout"],
    "attn_dropout_prob": 0.0,
    "loss_type": "BPR" if JOB["loss"] == "bce" else "CE",
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1} if JOB["loss"] == "bce" else None,
    "train_batch_size": JOB["batch_size"],
    "learning_rate": JOB["learning_rate"],
    "epochs": JOB["epochs"],
    "seed": JOB["seed"],
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
}


class Stopped(Exception):
    """Nobody wants another epoch."""


class BCE(torch.nn.Module):
    """Binary cross-entropy of RecBole's pair of scores."""

    def forward(self, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
        return (softplus(-positive) + softplus(negative)).mean()


class Timed(Trainer):
    """RecBole's own epochs under the clock."""

    def _train_epoch(self, *arguments, **options):
        EPOCHS.begin()
        loss = super()._train_epoch(*arguments, **options)
        if not EPOCHS.end(states):
            raise Stopped
        return loss


def states() -> tuple[torch.Tensor, torch.Tensor]:
    model.eval()
    number = dataset.field2token_id["item_id"]  # an item that nobody has in training has none
    numbers = torch.tensor([0] + [number.get(str(item), 0) for item in range(1, ITEMS + 1)])
    table = torch.where((numbers[1:] > 0)[:, None], model.item_embedding.weight[numbers[1:]], torch.nan)
    tokens, lengths = contexts(left_padded=False)
    parts = zip(numbers[tokens].split(512), lengths.split(512), strict=True)
    return torch.cat([model(part, length) for part, length in parts]), table


if __name__ == "__main__":
    columns = {"user_id:token": owners(), "item_id:token": SEQUENCE, "timestamp:float": places().astype(np.float64)}
    Path("histories").mkdir()
    pd.DataFrame(columns).to_csv("histories/histories.inter", sep="\t", index=False)
    config = Config(model="SASRec", dataset="histories", config_dict=SETTINGS)
    init_seed(config["seed"], config["reproducibility"])
    torch.use_deterministic_algorithms(False)
    dataset = create_dataset(config)
    dataset._change_feat_format()  # the first half of `build`; the other half would hold targets out again
    sampler, _, _ = create_samplers(config, dataset, [dataset] * 3)
    loader = get_dataloader(config, "train")(config, dataset, sampler, shuffle=True)
    model = SASRec(config, dataset)
    if JOB["loss"] == "bce":
        model.loss_fct = BCE()
    EPOCHS.ready("recbole")
    with suppress(Stopped):
        Timed(config, model).fit(loader, saved=False, verbose=False)
