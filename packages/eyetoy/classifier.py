"""A classifier of sounds, images and clips: an encoder with a linear head on its context."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.encoder import ENCODERS, EncoderOutput
from eyetoy.hub import HubModel
from eyetoy.params import EncoderParams, as_encoder_params
from eyetoy.sizes import check_count, check_rates


class Classifier(HubModel):
    """Map inputs `[batch, in_channels, *grid]` of any size to logits `[batch, num_classes]`.

    `save_pretrained(folder)` and `from_pretrained(folder or hub name)` write and read safetensors and a JSON config.

    Args:
        params: the encoder's parameters, also as a dict from a JSON config.
        num_classes: how many logits.
        dropout: share of the context's channels to drop before the head, in training.

    Raises:
        ValueError: a number is out of range, or no encoder can be built from `params`.
    """

    kind = "classifier"

    def __init__(self, params: EncoderParams | dict[str, Any], num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_count(num_classes, "num_classes")
        check_rates(dropout=dropout)
        params = as_encoder_params(params)
        self.num_classes = num_classes
        self.dropout = dropout
        self.encoder = ENCODERS[params.num_spatial_dims](params)
        self.head = nn.Linear(params.out_channels, num_classes)

    @property
    def num_features(self) -> int:
        """Channels of the head's input."""
        return self.encoder.params.out_channels

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits of `x`; arguments and errors as in `Encoder.forward`."""
        return self.forward_head(self.encoder(x, lengths, context_only=True))

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
        """Return the encoder's features and context; arguments and errors as in `Encoder.forward`."""
        output: EncoderOutput = self.encoder(x, lengths)
        return output

    def forward_head(self, features: EncoderOutput, *, pre_logits: bool = False) -> Tensor:
        """Return the logits of the result of `forward_features`, or, with `pre_logits`, the last layer's input."""
        context = F.dropout(features.context, self.dropout, training=self.training)
        logits: Tensor = context if pre_logits else self.head(context)
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one, for other classes."""
        check_count(num_classes, "num_classes")
        weight = self.head.weight
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes, device=weight.device, dtype=weight.dtype)
        if isinstance(self._hub_mixin_config, dict):  # `save_pretrained` writes this, the arguments of the constructor
            self._hub_mixin_config["num_classes"] = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of every block in the backward pass: less memory for more time."""
        self.encoder.set_grad_checkpointing(enable)

    @property
    def _no_split_modules(self) -> list[str]:
        """Tell Accelerate's FSDP which modules to wrap as one unit: a block."""
        return sorted({type(block).__name__ for block in self.encoder.transformer})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Tell timm's layer decay which parameters make up a layer; without timm, `param_groups` does the same."""
        return self.encoder.group_matcher(coarse, prefix="encoder.")

    def no_weight_decay(self) -> set[str]:
        """Tell timm which parameters with two axes must not decay: the learned tokens."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()}
