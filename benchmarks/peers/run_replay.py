"""RePlay's SasRec on its Parquet pipeline. Losses: bce (one negative per position), ce (all items), sampled-softmax.

The variant "buckets" adds what RePlay itself has against padding: batches trimmed to their longest history and, in the
encoder, to the longest of a bucket of rows.
"""

from __future__ import annotations

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import EPOCHS, ITEMS, JOB, MAX_LEN, OFFSETS, SEQUENCE, contexts, plain_attention
from replay.data import FeatureHint, FeatureType
from replay.data.nn import ParquetModule, TensorFeatureInfo, TensorSchema
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.loss import CE, BCESampled, CESampled
from replay.nn.sequential import LengthBucketedQueryEncoder, SasRec
from replay.nn.transform import GroupTransform, TargetAwareAdaptiveTrimTransform, UniformNegativeSamplingTransform
from replay.nn.transform.template import make_default_sasrec_transforms

ITEM = "item_id"  # RePlay numbers items from 0 and pads with their count
BUCKET = 32  # rows; the fastest of 8, 16, 32 and 64 on 2,000 users of Beauty
SHARED_NEGATIVES = 1024


class NegativePerPosition(torch.nn.Module):
    """Uniform over all items; RePlay's own transform draws one set for the whole batch."""

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return batch | {"negative_labels": torch.randint(ITEMS, batch["positive_labels"].shape)}


def transforms(schema: TensorSchema) -> list[torch.nn.Module]:
    steps = make_default_sasrec_transforms(schema)["train"]
    if JOB["variant"] == "buckets":
        trim = TargetAwareAdaptiveTrimTransform([ITEM, "positive_labels"])
        steps.insert(2, trim)  # behind the masks' renaming, before the targets get their third dimension
    if JOB["loss"] == "bce":
        steps.insert(-1, NegativePerPosition())
    if JOB["loss"] == "sampled-softmax":
        steps.insert(-1, UniformNegativeSamplingTransform(ITEMS, SHARED_NEGATIVES))
    assert isinstance(steps[-1], GroupTransform)
    return steps


def states() -> tuple[torch.Tensor, torch.Tensor]:
    model.eval()
    tokens = contexts(left_padded=True)[0]
    real = tokens > 0
    tokens = torch.where(real, tokens - 1, ITEMS)
    parts = zip(tokens.split(512), real.split(512), strict=True)
    rows = [model.body({ITEM: part}, mask)[:, -1] for part, mask in parts]
    table = model.body.embedder.get_item_weights(None)
    model.train()
    return torch.cat(rows), table


class Clock(lightning.Callback):
    """Around every epoch."""

    def on_train_start(self, _trainer, _module) -> None:
        EPOCHS.ready("replay-rec")

    def on_train_epoch_start(self, _trainer, _module) -> None:
        EPOCHS.begin()

    def on_train_epoch_end(self, trainer, _module) -> None:
        trainer.should_stop = not EPOCHS.end(states)


if __name__ == "__main__":
    lists = pa.ListArray.from_arrays(pa.array(OFFSETS, pa.int32()), pa.array(SEQUENCE.astype(np.int64) - 1))
    pq.write_table(pa.table({ITEM: lists}), "train.parquet")
    item = TensorFeatureInfo(
        ITEM,
        is_seq=True,
        feature_type=FeatureType.CATEGORICAL,
        feature_hint=FeatureHint.ITEM_ID,
        embedding_dim=JOB["dimension"],
        cardinality=ITEMS,
        padding_value=ITEMS,
    )
    schema = TensorSchema([item])
    data = ParquetModule(
        batch_size=JOB["batch_size"],
        metadata={"train": {ITEM: {"shape": MAX_LEN + 1, "padding": ITEMS}}},
        transforms={"train": transforms(schema)},
        train_path="train.parquet",
    )
    model = SasRec.from_params(
        schema,
        embedding_dim=JOB["dimension"],
        num_heads=JOB["heads"],
        num_blocks=JOB["layers"],
        max_sequence_length=MAX_LEN,
        dropout=JOB["dropout"],
    )
    losses = {"bce": BCESampled, "sampled-softmax": CESampled, "ce": lambda: CE(ignore_index=ITEMS)}
    model.loss = losses[JOB["loss"]]()
    model.loss.logits_callback = model.get_logits
    if JOB["variant"] == "buckets":
        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, BUCKET)
    plain_attention(model)
    module = LightningModule(model, OptimizerFactory(learning_rate=JOB["learning_rate"]))
    trainer = lightning.Trainer(
        max_epochs=JOB["epochs"],
        accelerator="cpu",
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        callbacks=[Clock()],
    )
    trainer.fit(module, data)
