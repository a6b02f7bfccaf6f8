"""An encoder with a linear head on its context: what classifies sounds, images and clips."""

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

    @property
    def num_features(self) -> int:
        """Channels of what the head takes."""
        return self.encoder.params.out_channels

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits of `x`; arguments and errors as in `Encoder.forward`."""
        return self.forward_head(self.encoder(x, lengths, context_only=True))

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
        """Return what the encoder gives, spatial features and context; arguments and errors as in `Encoder.forward`."""
        output: EncoderOutput = self.encoder(x, lengths)
        return output

    def forward_head(self, features: EncoderOutput, *, pre_logits: bool = False) -> Tensor:
        """Return the logits of what `forward_features` gave, or, with `pre_logits`, what the last layer would take."""
        context = F.dropout(features.context, self.dropout, training=self.training)
        logits: Tensor = context if pre_logits else self.head(context)
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new last layer in place, for other classes; `save_pretrained` knows of it."""
        check_count(num_classes, "num_classes")
        weight = self.head.weight
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes, device=weight.device, dtype=weight.dtype)
        if isinstance(self._hub_mixin_config, dict):
            self._hub_mixin_config["num_classes"] = num_classes

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the inside of every block again in the backward pass: less memory for more time."""
        self.encoder.set_grad_checkpointing(enable)

    @property
    def _no_split_modules(self) -> list[str]:
        """Tell Accelerate's FSDP what to keep in one piece: a block."""
        return sorted({type(block).__name__ for block in self.encoder.transformer})

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Tell timm's layer decay which parameters make up a layer; without timm, `param_groups` does the same."""
        blocks = [(r"^encoder\.transformer\.(\d+)", None), (r"^encoder\.(?:norm|global_attention)", (99998,))]
        return {"stem": r"^encoder\.initial_proj", "blocks": r"^encoder\.transformer" if coarse else blocks}

    def no_weight_decay(self) -> set[str]:
        """Tell timm which parameters with two axes must not decay."""
        return {name for name, _ in self.named_parameters() if name.endswith("global_tokens")}
