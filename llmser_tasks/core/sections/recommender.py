"""The backbone, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmser_tasks.core.choices import OneOf
from llmser_tasks.core.kinds import (
    BACKBONES,
    LOSSES,
    Kind,
)
from llmser_tasks.core.section import Section

NegativesFrom = Literal["uniform", "popularity", "batch"]


def _usual(kind: Kind[Any], what: str) -> str:
    """What the first of a kind declares, and which others declare something else: `0.5, for BERT4Rec 0.35`."""
    usual, *others = kind.values()
    differing = (one for one in others if getattr(one, what) != getattr(usual, what))
    return ", ".join([f"{getattr(usual, what):g}", *(f"for {one.title} {getattr(one, what):g}" for one in differing)])


class Recommender(Section):
    """The backbone and how it is trained; all models of a run share it."""

    heading: ClassVar[str] = "Recommender (the backbone of every model)"

    backbone: Annotated[str, OneOf(BACKBONES)] = Field(BACKBONES.default, description="Sequential recommender. [paper]")
    dimension: int = Field(64, ge=4, le=1024, description="d, width of embeddings and states. [released code]")
    layers: int = Field(2, ge=1, le=12, description="Blocks (or GRU layers). [released code]")
    heads: int = Field(1, ge=1, le=16, description="Attention heads. [released code]")
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description=f"Empty: {_usual(BACKBONES, 'dropout')}. [released code; measured on Beauty; eSASRec]",
    )
    max_length: int = Field(
        50,
        ge=2,
        le=1000,
        description="Longest sequence a model sees; the newest are kept. [80th percentile of Beauty is 10]",
    )
    loss: Annotated[str, OneOf(LOSSES)] = Field(
        LOSSES.default,
        description="The strong loss by default; bce is the paper's, gbce gSASRec's, cross-entropy takes all items."
        " [measured on Beauty]",
    )
    negatives: int | None = Field(
        None,
        ge=1,
        description="Negatives shared by a batch (sampled-softmax) or drawn per position (bce, gbce);"
        f" empty: {_usual(LOSSES, 'negatives')}. [measured on Beauty; paper; gSASRec]",
    )
    negatives_from: NegativesFrom = Field(
        "batch",
        description="Where sampled-softmax draws them: all items alike, by popularity, or the batch's own positives"
        " beside uniform ones, each corrected for (logQ); the other losses draw uniformly. [measured on Beauty]",
    )
    calibration: float = Field(
        0.75, ge=0, le=1, description="t of gbce: 0 is bce, 1 undoes all overconfidence. [gSASRec]"
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Users per batch; empty: 256, or 128 for fewer than 2,000 training users. [released code: 128; measured"
        " on Beauty and Gift Cards]",
    )
    learning_rate: float = Field(1e-3, gt=0, le=1, description="Adam, no weight decay. [released code]")
    averaging: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="The model is a moving average of the weights after each epoch, in which the former average has this"
        f" share; empty: {_usual(BACKBONES, 'averaging')}. [measured on Beauty]",
    )
    epochs: int = Field(200, ge=1, description="Most epochs of a training. [released code]")
    patience: int = Field(
        10,
        ge=1,
        description="Epochs without a better validation NDCG@10 before training stops. [released code: 20; measured on Beauty]",
    )
    held_out_users: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of users whose first item CCG never trains on: its early-stopping targets. [method]",
    )

    @model_validator(mode="after")
    def _loss_takes_these_negatives(self) -> Self:
        if self.negatives_from == "popularity" and not LOSSES[self.loss].shared:
            sharing = " or ".join(name for name, loss in LOSSES.items() if loss.shared)
            raise ValueError(f"negatives_from {self.negatives_from!r} needs the loss {sharing}")
        return self

    _resolved: ClassVar[Mapping[str, str]] = {
        "dropout": "dropout_rate",
        "averaging": "averaging_rate",
        "negatives": "negatives_drawn",
        "batch_size": "batch_sizes",
    }

    @property
    def batch_sizes(self) -> tuple[tuple[int | None, int], ...]:
        """(below so many training users, users per batch), the first that fits: as set, or what the search on
        validation items found."""
        return ((2_000, 128), (None, 256)) if self.batch_size is None else ((None, self.batch_size),)

    @property
    def dropout_rate(self) -> float:
        """As set, or what the search on Beauty's validation items found for the backbone."""
        if self.dropout is not None:
            return self.dropout
        return BACKBONES[self.backbone].dropout

    @property
    def averaging_rate(self) -> float:
        """As set, or what the search on Beauty's validation items found for the backbone."""
        if self.averaging is not None:
            return self.averaging
        return BACKBONES[self.backbone].averaging

    @property
    def negatives_drawn(self) -> int:
        """How many negatives are drawn: as set, or as the loss's authors did."""
        return LOSSES[self.loss].negatives if self.negatives is None else self.negatives
