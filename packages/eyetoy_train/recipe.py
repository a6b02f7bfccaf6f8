"""The recipe of a run, typed and checked. The docstrings of its fields are the text of `--help`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import yaml

from eyetoy_train.concerns import ANYWHERE, DATA, MODEL, PRECISION, TRAINING, Concerns

FREE = "free"
"""Key of the metadata of a field with another value of which a run may go on: of a set, it changes nothing that is
computed; a stream begins a new pass."""
BEFORE = "before"
"""In the metadata of a field that was added later, with another default than the behaviour until then: the value of
recipes that were written without it."""

Schedule = Literal["cosine", "one_cycle", "constant", "steps"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""The modes of torch.compile that record CUDA graphs."""


@dataclass(kw_only=True)
class ModelRecipe:
    """The model to train, by name."""

    concerns: ClassVar[Concerns] = {
        MODEL: ("name", "weights", "stem_strides", "options"),
        TRAINING: ("drop_path", "dropout", "grad_checkpointing", "compile", "channels_last"),
    }

    name: str = "eyetoy2d_pico"
    """A name from `eyetoy.list_models()`, or `timm/NAME` for any image model of timm."""
    weights: str | None = None
    """Start from trained weights: a run's folder, a checkpoint, or a name on Hugging Face's hub. What fits is loaded; a
    head only for classes of the same names, in any order. The run says what is loaded, and what is new and why."""
    stem_strides: list[int | list[int]] | None = None
    """Strides of the stem's convolutions, each a number or one per axis; the model's own if not given."""
    drop_path: float = 0.0
    """Stochastic depth of the last block, growing linearly from 0 at the first."""
    dropout: float = 0.0
    """Share of the context's channels that are dropped before the head."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the model, such as `layer_scale: 1e-5`, or `embed_dim: 192` for timm's."""
    grad_checkpointing: bool = False
    """Recompute the inside of every block in the backward pass: less memory for more time."""
    compile: bool | CompileMode = False
    """Compile the model with torch.compile: a slow start, then faster steps on most GPUs. true is its mode `default`.
    For small models `reduce-overhead` also records CUDA graphs, which launch a whole pass at once. `max-autotune` tries
    more kernels and records graphs too; `max-autotune-no-cudagraphs` records none."""
    channels_last: bool = False
    """Lay out the input in memory with the channels innermost; faster for convolutional models on GPUs."""


@dataclass(kw_only=True)
class EmaRecipe:
    """A moving average of the weights. If there is one, it is evaluated and kept as the best checkpoint."""

    decay: float | None = None
    """Weight of the past in every step, such as 0.999; no average if not given."""
    warmup: bool = True
    """Let the decay rise as (1 + step) / (10 + step) up to `decay`, to forget the first weights soon."""

    def __post_init__(self) -> None:
        """Refuse values that give no average."""
        check_fields(self, "at least 0", "decay")
        check_fields(self, "below 1", "decay")


@dataclass(kw_only=True)
class CheckpointRecipe:
    """When checkpoints are written and which are kept. One is always written before and after an epoch's evaluation."""

    every_steps: int | None = None
    """Also write one every so many optimizer steps, for long epochs."""
    keep_last: int = 2
    """How many of the latest to keep; a run resumes from the latest."""
    keep_best: int = 1
    """How many of the best, by validation score, to keep as models; the first is checkpoints/best."""

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        check_fields(self, "at least 1", "every_steps", "keep_last", "keep_best")


@dataclass(kw_only=True)
class Recipe:
    """All that the engine needs to know, whatever it trains."""

    concerns: ClassVar[Concerns] = {
        ANYWHERE: ("eval_batch_size", "num_workers"),
        DATA: ("seed",),  # it chooses the samples that are held out
        PRECISION: ("mixed_precision",),
        TRAINING: (
            *("name", "output_dir", "epochs", "steps_per_epoch", "max_steps", "batch_size"),
            *("gradient_accumulation_steps", "augmentation_repeats", "eval_epochs", "early_stop_epochs", "optimizer"),
            *("lr", "min_lr", "schedule", "decay_epochs", "warmup_epochs", "weight_decay", "layer_decay", "betas"),
            *("momentum", "clip_grad_norm", "drop_path_warmup_epochs", "deterministic", "log_steps", "trackers"),
            *("ema", "checkpoints"),
        ),
    }

    name: str = "run"
    """Name of the run; its folder is runs/NAME, or runs/NAME-2 and so on where that holds a finished run."""
    output_dir: str | None = None
    """Folder of the run, instead of runs/NAME. It must be new, empty, or hold an unfinished run of this recipe."""
    epochs: int = 30
    """Passes over the training set."""
    steps_per_epoch: int | None = None
    """Optimizer steps per epoch; one pass over the training set if not given. Streams of unknown size need it."""
    max_steps: int | None = None
    """Stop after this many optimizer steps, whatever `epochs` says; for trying a recipe out."""
    batch_size: int = 64
    """Samples per optimizer step, summed over all processes and accumulated passes."""
    gradient_accumulation_steps: int = 1
    """Forward and backward passes per optimizer step, each on a micro batch: an equal part of `batch_size`."""
    augmentation_repeats: int = 1
    """How often a sample comes in a row, augmented anew each time; an epoch sees that many times fewer of them (Hoffer
    et al., 2020). For sets, not for streams."""
    eval_batch_size: int = 128
    """Samples per forward pass of an evaluation, on each process."""
    eval_epochs: int = 1
    """Evaluate after this many epochs, and after the last one."""
    early_stop_epochs: int | None = None
    """Stop when the validation score has not risen for this many epochs; never if not given."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon (Jordan et al., 2024) for matrices and kernels and AdamW for the rest, whose steps learn more and
    take longer. Both take the same learning rates and weight decay."""
    lr: float = 1e-3
    """Highest learning rate, reached after the warm-up; for this `batch_size`, on any number of devices."""
    min_lr: float = 1e-6
    """Learning rate at the end of the cosine and one-cycle schedules."""
    schedule: Schedule = "cosine"
    """After the warm-up: half a cosine down to `min_lr`; constant; one cycle (Smith and Topin, 2018), which also warms
    up along a cosine, from `lr` / 25; or steps, down to a tenth after each of `decay_epochs`."""
    decay_epochs: list[float] = field(default_factory=list)
    """Epochs after which the learning rate falls, for the schedule of steps."""
    warmup_epochs: float = 2.0
    """Epochs over which the learning rate rises, linearly from nearly 0 (one cycle: see `schedule`)."""
    weight_decay: float = 0.05
    """Decoupled weight decay, on matrices and kernels only: not on biases, norms, scales and learned tokens."""
    layer_decay: float = 1.0
    """Factor on the learning rate for each layer further from the head; 0.65 to 0.9 is usual in fine-tuning."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the gradient's first and second moment."""
    momentum: float = 0.95
    """Muon's decay rate of the gradient's momentum; try 0.9 for a short run."""
    clip_grad_norm: float | None = None
    """Clip the gradient to this norm; no clipping if not given."""
    drop_path_warmup_epochs: float = 0.0
    """Epochs over which stochastic depth rises linearly from 0 to that of the model."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the forward pass."""
    deterministic: bool = False
    """Use deterministic algorithms only, which costs speed on GPUs. On a CPU runs repeat exactly without it."""
    num_workers: int = field(default=0, metadata={FREE: True})
    """Loading workers of each training process; 0 loads in the training process itself."""
    log_steps: int = 10
    """Optimizer steps between lines in steps.jsonl and trackers, and between checks that the loss is finite."""
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])
    """Where curves go besides the run's folder: tensorboard, wandb, mlflow and others that Accelerate knows."""
    seed: int = 0
    """Seed of everything random: initial weights, order of samples, augmentation, dropout."""
    model: ModelRecipe = field(default_factory=ModelRecipe)
    """The model."""
    ema: EmaRecipe = field(default_factory=EmaRecipe)
    """A moving average of the weights."""
    checkpoints: CheckpointRecipe = field(default_factory=CheckpointRecipe)
    """When checkpoints are written and which are kept."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        check_fields(self, "at least 1", "epochs", "batch_size", "gradient_accumulation_steps", "eval_batch_size")
        check_fields(self, "at least 1", "eval_epochs", "log_steps", "max_steps", "steps_per_epoch")
        check_fields(self, "at least 1", "early_stop_epochs", "augmentation_repeats")
        check_fields(self, "at least 0", "min_lr", "warmup_epochs", "weight_decay", "num_workers")
        check_fields(self, "at least 0", "drop_path_warmup_epochs", "momentum")
        check_fields(self, "below 1", "momentum")
        check_fields(self, "above 0", "lr", "layer_decay", "clip_grad_norm")
        check_fields(self, "at most 1", "layer_decay")
        are_betas = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        check(are_betas, "betas", self.betas, "two numbers, each at least 0 and below 1")
        if self.schedule in ("cosine", "one_cycle") and self.min_lr > self.lr:
            raise ValueError(
                f"the {self.schedule} schedule ends at min_lr={self.min_lr:g}, above lr={self.lr:g}, so that the rate "
                "would rise; lower min_lr"
            )
        if (self.schedule == "steps") != bool(self.decay_epochs):
            raise ValueError(
                "decay_epochs tells `schedule: steps` when the rate falls, and both must be given or neither; got "
                f"schedule={self.schedule} and decay_epochs={self.decay_epochs}"
            )
        check(all(epochs > 0 for epochs in self.decay_epochs), "decay_epochs", self.decay_epochs, "numbers above 0")
        if self.drop_path_warmup_epochs and self.model.compile:
            raise ValueError("drop_path_warmup_epochs makes model.compile compile at every step; use one of the two")
        if self.gradient_accumulation_steps > 1 and self.model.compile in CUDA_GRAPHS:
            raise ValueError(
                f"model.compile={self.model.compile} records CUDA graphs, in which a pass overwrites the gradients of "
                f"the one before; gradient_accumulation_steps={self.gradient_accumulation_steps} adds them up: use 1, "
                "or model.compile=default"
            )

    def micro_batch_size(self, num_processes: int) -> int:
        """Return the number of samples that one process takes in one forward and backward pass.

        Raises:
            ValueError: `batch_size` cannot be divided equally over processes and accumulated micro batches.
        """
        divisor = num_processes * self.gradient_accumulation_steps
        if self.batch_size % divisor:
            raise ValueError(
                f"batch_size={self.batch_size} is the number of samples per optimizer step, and {num_processes} "
                f"process(es) times {self.gradient_accumulation_steps} accumulated micro batch(es) must share it "
                f"equally; choose a multiple of {divisor}"
            )
        return self.batch_size // divisor


@dataclass(kw_only=True)
class ClassificationRecipe(Recipe):
    """A recipe for a classifier."""

    concerns: ClassVar[Concerns] = {TRAINING: ("label_smoothing", "class_weights", "eval_metric")}

    label_smoothing: float = 0.1
    """Share of the target probability that is spread over all classes."""
    class_weights: Literal["none", "balanced"] = "none"
    """Weights of the classes in the cross-entropy of training. Balanced: n / (k n_c) for a class with n_c of the n
    training samples of k classes, so that rare classes count as much as common ones. For sets with one label a sample;
    `data.sampling: balanced` is another way to the same end, so use one of the two."""
    eval_metric: Literal["accuracy", "mean_class_accuracy", "top5", "mAP", "f1"] | None = None
    """Validation score that chooses the best checkpoint and stops early: accuracy if not given, and mAP where a sample
    has several labels. `mean_class_accuracy`, also called balanced accuracy, is right for uneven classes."""

    def __post_init__(self) -> None:
        """Refuse a share of the target that would leave it less than nothing."""
        super().__post_init__()
        check_fields(self, "at least 0 and below 1", "label_smoothing")


RANGES: dict[str, Callable[[Any], bool]] = {
    "at least 0": lambda value: value >= 0,
    "at least 1": lambda value: value >= 1,
    "above 0": lambda value: value > 0,
    "below 1": lambda value: value < 1,
    "at most 1": lambda value: value <= 1,
    "from 0 to 1": lambda value: 0 <= value <= 1,
    "at least 0 and below 1": lambda value: 0 <= value < 1,
    "above 0 and at most 1": lambda value: 0 < value <= 1,
    "numbers above 0, at least one": lambda values: len(values) > 0 and min(values) > 0,
}
"""Ranges of a recipe's values, by the words that an error has for them."""


def check(is_right: bool, key: str, value: object, allowed: str) -> None:
    """Refuse a value of a recipe.

    Raises:
        ValueError: it is not right. The message has the value and what it must be.
    """
    if not is_right:
        raise ValueError(f"{key} must be {allowed}; got {value}")


def check_fields(part: object, allowed: str, *names: str, prefix: str = "") -> None:
    """Check that fields of a recipe, or of a part of one, are in a range, or None.

    Args:
        part: has the fields.
        allowed: one of `RANGES`.
        names: of the fields.
        prefix: what comes before their names on the command line, such as `data.`.

    Raises:
        ValueError: one is not.
    """
    for name in names:
        value = getattr(part, name)
        check(value is None or RANGES[allowed](value), prefix + name, value, allowed)


class _RecipeDumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1, which PyYAML writes, takes for text, and `--config` for a number: a run `3e-4`."""


_RecipeDumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as YAML that `--config` takes."""
    return yaml.dump(_without_tuples(dataclasses.asdict(recipe)), Dumper=_RecipeDumper, sort_keys=False)


def _without_tuples(value: Any) -> Any:
    """Return `value` with tuples as lists, which is all that safe YAML knows."""
    if isinstance(value, dict):
        return {key: _without_tuples(item) for key, item in value.items()}
    return [_without_tuples(item) for item in value] if isinstance(value, list | tuple) else value


def is_written_as(recipe: Any, written: Any) -> bool:
    """Whether a recipe, or a part of one, is the one that was written down, perhaps by an earlier version.

    Args:
        recipe: the recipe.
        written: the content of a recipe file. Keys may stand in any order, and those that an earlier version did not
            have may be missing, as long as the recipe leaves them at their defaults, or at their value `BEFORE`. Fields
            that are `FREE` may differ.
    """
    fields = {field.name: field for field in dataclasses.fields(recipe)}
    if not isinstance(written, dict) or not written.keys() <= fields.keys():
        return False
    for name, declared in fields.items():
        value = getattr(recipe, name)
        if dataclasses.is_dataclass(value):
            same = is_written_as(value, written.get(name, {}))
        elif FREE in declared.metadata:
            continue
        elif name in written:
            same = bool(_without_tuples(value) == written[name])
        elif BEFORE in declared.metadata:
            same = bool(value == declared.metadata[BEFORE])
        else:
            factory = declared.default_factory
            same = bool(value == (declared.default if factory is dataclasses.MISSING else factory()))
        if not same:
            return False
    return True


def options_before(recipe_class: type[Any], written: Any, prefix: str = "") -> list[str]:
    """Return options for a recipe that was written by an earlier version: the values of `BEFORE` that it lacks.

    Args:
        recipe_class: the class of the recipe, or of a part of one.
        written: the content of its file.
        prefix: what comes before the names of its fields on a command line.
    """
    found = []
    for declared in dataclasses.fields(recipe_class):
        entry = written.get(declared.name) if isinstance(written, dict) else None
        if dataclasses.is_dataclass(declared.default_factory):
            found += options_before(declared.default_factory, entry, f"{prefix}{declared.name}.")
        elif entry is None and BEFORE in declared.metadata:
            found.append(f"--{prefix}{declared.name}={declared.metadata[BEFORE]}")
    return found
