"""An encoder with a linear head on its context: what classifies sounds, images and clips."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.encoder import ENCODERS
from eyetoy.hub import HubModel
from eyetoy.params import EncoderParams, as_encoder_params
from eyetoy.sizes import check_count, check_rates


class Classifier(HubModel):
    """Map inputs `[batch, in_channels, *grid]` of any size to logits `[batch, num_classes]`.

    `save_pretrained(folder)` and `from_pretrained(folder or hub name)` write and read safetensors and a JSON config.

    Args:
        params: the encoder, or a dict as its JSON config holds it.
        num_classes: how many logits.
        dropout: share of the context's channels to drop before the head, in training.
    """

    def __init__(self, params: EncoderParams | dict[str, Any], num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_count(num_classes, "num_classes")
        check_rates(dropout=dropout)
        params = as_encoder_params(params)
        self.num_classes = num_classes
        self.dropout = dropout
        self.encoder = ENCODERS[params.num_spatial_dims](params)
        self.head = nn.Linear(params.out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        context = self.encoder(x).context
        logits: Tensor = self.head(F.dropout(context, self.dropout, training=self.training))
        return logits
