"""A classifier of sounds, images and clips: an encoder with a linear head on its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from eyetoy.encoder import ENCODERS, EncoderOutput
from eyetoy.hub import HubModel
from eyetoy.params import EncoderParams, Pool, as_encoder_params
from eyetoy.prepared import labels_in, preprocessing_in, warn_if_raw
from eyetoy.pyramid import stage_indices
from eyetoy.sizes import check_count, check_rates
from eyetoy.tracing import is_plain_call


class Classifier(HubModel):
    """Map inputs `[batch, in_channels, *grid]` of any size to logits `[batch, num_classes]`.

    `save_pretrained(folder)` and `from_pretrained(folder or hub name)` write and read safetensors and a JSON config.
    A model that training saved also has the names of its classes there, `id2label`, and its `preprocessing`; both are
    empty otherwise. It warns once of an input on a CPU that looks unprepared: `eyetoy.load` prepares samples.

    Args:
        params: the encoder's parameters, also as a dict from a JSON config.
        num_classes: how many logits; 0 for no head: the model then gives the context, as with timm.
        dropout: share of the context's channels to drop before the head, in training.

    Raises:
        ValueError: a number is out of range, or no encoder can be built from `params`.
    """

    kind = "classifier"

    def __init__(self, params: EncoderParams | dict[str, Any], num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_rates(dropout=dropout)
        params = as_encoder_params(params)
        self.num_classes = num_classes
        self.dropout = dropout
        self.id2label: dict[int, str] = {}
        """Names of the classes by their place in the logits."""
        self.preprocessing: dict[str, Any] = {}
        """How samples become inputs: sizes, and `mean` and `std` of pixels or the `rms` of sounds."""
        self.warns_of_raw_input = True
        """Whether an unprepared input is warned of; only a model with `preprocessing` can tell."""
        self.encoder = ENCODERS[params.num_spatial_dims](params)
        self.head = _head(params.out_channels, num_classes)

    @property
    def num_features(self) -> int:
        """Channels of the head's input."""
        return self.encoder.params.out_channels

    @property
    def head_hidden_size(self) -> int:
        """The same, under timm's name for the input of the last layer."""
        return self.num_features

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits of `x`; arguments and errors as in `Encoder.forward`."""
        self._look_at(x, lengths)
        return self.forward_head(self.encoder(x, lengths, context_only=True))

    def forward_features(self, x: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
        """Return the encoder's features and context; arguments and errors as in `Encoder.forward`."""
        self._look_at(x, lengths)
        output: EncoderOutput = self.encoder(x, lengths)
        return output

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[EncoderOutput, list[Tensor]]:
        """Return the result of `forward_features` and the output of stages, as timm's models do.

        Args:
            x: the input, as in `Encoder.forward`.
            indices: stages, counted from the finest; one integer is the number of the last ones; all by default.
            norm: put the encoder's last norm on the output of the last stage.
            stop_early: compute no stage after the chosen ones; it needs `intermediates_only`.
            output_fmt: "NCHW", for `[batch, channels, *grid]` in any number of dimensions.
            intermediates_only: return the output of the stages alone.

        Raises:
            ValueError: there is no such stage or format, or `stop_early` leaves nothing to finish with.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', which is [batch, channels, *grid] here; got {output_fmt!r}")
        if stop_early and not intermediates_only:
            raise ValueError("stop_early leaves no final features; give intermediates_only=True with it")
        last = len(self.encoder.stages) - 1
        chosen = stage_indices(indices, last + 1)
        stages = self.encoder.forward_stages(x, num_stages=max(chosen) + 1 if stop_early else None)
        outputs = [self.encoder.norm(stages[i]) if norm and i == last else stages[i] for i in chosen]
        maps = [output.movedim(-1, 1) for output in outputs]
        return maps if intermediates_only else (self.encoder.finish(stages[-1]), maps)

    def forward_head(self, features: EncoderOutput, *, pre_logits: bool = False) -> Tensor:
        """Return the logits of the result of `forward_features`, or, with `pre_logits`, the last layer's input."""
        context = F.dropout(features.context, self.dropout, training=self.training)
        logits: Tensor = context if pre_logits else self.head(context)
        return logits

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: Pool | None = None) -> None:
        """Replace the last layer by a new one, for other classes.

        Args:
            num_classes: how many logits; 0 for no head.
            global_pool: the context that the global stack returns from now on, "token" or "avg"; as before by default.

        Raises:
            ValueError: `num_classes` is negative, or the encoder has no such context.
        """
        weight = self.encoder.norm.weight
        head = _head(self.num_features, num_classes, device=weight.device, dtype=weight.dtype)
        if global_pool is not None:
            self.set_pool(global_pool)
        self.head, self.num_classes, self.id2label = head, num_classes, {}

    def set_pool(self, global_pool: Pool) -> None:
        """Let the global stack return another context: "token", its context token, or "avg", the mean of the features.

        Raises:
            ValueError: the encoder has no such context.
        """
        params, stack = self.encoder.params, self.encoder.global_attention
        if params.global_attention is None or stack is None or not stack.has_context_token:
            if global_pool != "avg":
                raise ValueError(
                    f"this encoder has no context token, and global_pool must be 'avg'; got {global_pool!r}"
                )
            return
        params = replace(params, global_attention=replace(params.global_attention, global_pool=global_pool))
        self.encoder.params, stack.global_pool = params, global_pool
        for model in (self, self.encoder):  # `save_pretrained` of either writes the arguments of its constructor
            if isinstance(model._hub_mixin_config, dict):
                model._hub_mixin_config["params"] = asdict(params)

    def _arguments(self) -> dict[str, Any]:
        arguments = super()._arguments()
        # The head may have been replaced by hand.
        if isinstance(self.head, nn.Identity):
            return {**arguments, "num_classes": 0}
        return {**arguments, "num_classes": getattr(self.head, "out_features", self.num_classes)}

    def _description(self) -> dict[str, Any]:
        """Return the labels and the preprocessing for the config."""
        names = {str(place): name for place, name in self.id2label.items()}
        return {key: value for key, value in (("id2label", names), ("preprocessing", self.preprocessing)) if value}

    def _take_description(self, config: Mapping[str, Any]) -> None:
        """Take labels and preprocessing from a config, if they are of a model like this one."""
        self.id2label, self.preprocessing = labels_in(config, self.num_classes), preprocessing_in(config)

    def _look_at(self, x: Tensor, lengths: Tensor | None) -> None:
        """Warn once of an input that was not prepared; see `is_plain_call` for when its values are looked at."""
        asked = self.preprocessing and self.warns_of_raw_input and not self.training
        if asked and is_plain_call(x) and x.numel():
            self.warns_of_raw_input = not (x.is_floating_point() and warn_if_raw(x, lengths, self.preprocessing))

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


def _head(channels: int, num_classes: int, **factory: Any) -> nn.Module:
    if num_classes == 0:
        return nn.Identity()
    check_count(num_classes, "num_classes")
    return nn.Linear(channels, num_classes, **factory)
