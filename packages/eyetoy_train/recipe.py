"""What a run is made of: one typed recipe, whose field docstrings are the `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(kw_only=True)
class ModelRecipe:
    """The model to train, by name."""

    name: str = "eyetoy2d_pico"
    """A name from `eyetoy.list_models()`."""
    stem_strides: list[int | list[int]] | None = None
    """Strides of the stem's convolutions, each one number or one per axis; the model's own if not given."""
    drop_path: float = 0.0
    """Stochastic depth of the last block, growing linearly from 0 at the first."""
    dropout: float = 0.0
    """Share of the context's channels that are dropped before the head."""


@dataclass(kw_only=True)
class Recipe:
    """Everything that the engine needs to know, whatever it trains."""

    name: str = "run"
    """Name of the run; its folder is runs/NAME, or runs/NAME-2 and so on where that holds a finished run."""
    output_dir: str | None = None
    """Folder of the run, in place of runs/NAME. It must be new, empty, or hold an unfinished run of this recipe."""
    epochs: int = 30
    """Passes over the training set."""
    max_steps: int | None = None
    """Stop after this many optimizer steps, whatever `epochs` says; for trying a recipe out."""
    batch_size: int = 64
    """Samples per optimizer step, over all processes and accumulated passes together."""
    gradient_accumulation_steps: int = 1
    """Forward and backward passes per optimizer step; each takes its share of `batch_size`."""
    eval_batch_size: int = 128
    """Samples per forward pass of an evaluation, on each process."""
    lr: float = 1e-3
    """Highest learning rate, reached after the warm-up."""
    min_lr: float = 1e-6
    """Learning rate at the end of the cosine schedule."""
    warmup_epochs: float = 2.0
    """Epochs over which the learning rate rises linearly from nearly 0."""
    weight_decay: float = 0.05
    """AdamW's decoupled weight decay, on matrices and kernels only: not on biases, norms, scales and learned tokens."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the gradient's first and second moment."""
    clip_grad_norm: float | None = None
    """Clip the gradient to this norm; no clipping if not given."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the forward pass."""
    num_workers: int = 0
    """Processes that load data, for each training process; 0 loads in the training process itself."""
    seed: int = 0
    """Seed of everything random: initial weights, order of samples, augmentation, dropout."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    """The model."""

    def __post_init__(self) -> None:
        """Refuse numbers that no run can use."""
        for key in ("epochs", "batch_size", "gradient_accumulation_steps", "eval_batch_size"):
            _require(getattr(self, key) >= 1, key, getattr(self, key), "at least 1")
        for key in ("min_lr", "warmup_epochs", "weight_decay", "num_workers"):
            _require(getattr(self, key) >= 0, key, getattr(self, key), "at least 0")
        _require(self.lr > 0, "lr", self.lr, "above 0")
        _require(self.max_steps is None or self.max_steps >= 1, "max_steps", self.max_steps, "at least 1, or null")

    def samples_per_pass(self, num_processes: int) -> int:
        """Return how many samples one process takes in one forward and backward pass.

        Raises:
            ValueError: the processes and accumulated passes cannot share `batch_size` equally.
        """
        shares = num_processes * self.gradient_accumulation_steps
        if self.batch_size % shares:
            raise ValueError(
                f"batch_size={self.batch_size} is the number of samples per optimizer step, and {num_processes} "
                f"process(es) times {self.gradient_accumulation_steps} accumulated pass(es) must share it equally; "
                f"choose a multiple of {shares}"
            )
        return self.batch_size // shares


@dataclass(kw_only=True)
class ClassificationRecipe(Recipe):
    """A recipe for a classifier."""

    label_smoothing: float = 0.1
    """Share of the target probability that is spread over all classes."""


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{key} must be {allowed}; got {value}")
