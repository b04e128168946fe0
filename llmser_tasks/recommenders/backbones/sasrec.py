"""SASRec (Kang and McAuley, 2018): causal self-attention over the items so far."""

from __future__ import annotations

from torch import nn

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.kinds import Backbone
from llmser_tasks.recommenders.backbones.transformer import Block, CausalTransformer

DECLARED = Backbone(title="SASRec", place=1)


class SASRec(CausalTransformer):
    @staticmethod
    def block(config: Recommender) -> nn.Module:
        width = config.dimension
        return Block(width, config.heads, width, nn.ReLU(), config.dropout_rate)


BACKBONE = SASRec
