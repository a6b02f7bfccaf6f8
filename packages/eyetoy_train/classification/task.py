"""Classification of any modality: data, loss, metrics, checkpoints and samples."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import send_to_device
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from eyetoy_train.classification.datasets import SampleDataset, class_weights, labels_of, limited, without_unreadable
from eyetoy_train.classification.losses import weighted_cross_entropy
from eyetoy_train.classification.metrics import ClassificationMetrics, MultiLabelMetrics
from eyetoy_train.classification.samples import sample_file, source_name, spread_samples
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.relabelled import RelabelledSource
from eyetoy_train.data.source import ClassificationSource, DecodedStream, FolderData, FolderSource, LabelledSamples
from eyetoy_train.models.build import build_classifier, load_classifier
from eyetoy_train.models.external import TIMM, Families
from eyetoy_train.models.saved import save_model
from eyetoy_train.recipe import ClassificationRecipe, ModelRecipe, check, recipe_text
from eyetoy_train.report.figures import LabelledSample, TitledSample, draw_samples, draw_titled
from eyetoy_train.types import About, Batch, SampleStream, Split, Table
from eyetoy_train.utils.console import log, named

FORCED_CHOICE = "It names one of its classes for whatever it is given, also for what is none of them."
"""A limit of every classifier whose samples have one label."""
LEAST_SHARE, MOST_SHARES = 0.005, 2
"""Smallest share of a class in a mixed sample that is named in a figure, and the most of them."""
NO_LABEL = "(no label)"
"""Of a sample that has no label, or of which none is predicted."""
VIEWS_AT_ONCE = 32
"""Where samples have different numbers of views, the model gets as many at once, or as many as there are samples."""


class ClassificationTask(ABC):
    """The engine's `Task` for a classifier.

    A `ClassificationSource` lists the samples; a subclass reads the samples of a modality.

    A sample passes through these methods in order. In the loading workers, `load_sample` reads a source to a tensor,
    which `cache` keeps in memory, and `example` turns it into an example. On the model's device, `to_input` and, in
    training, `augment` change a whole batch, and `model_args` returns the arguments of the model. A modality implements
    `load_sample` and `plot`, and overrides the others as needed. The attributes below are set in its constructor.

    Abilities of some modalities only are protocols that commands test with isinstance: `Exportable`, `Timeline`,
    `Playable`.

    Args:
        recipe: the recipe.
        source: the samples.
        options: the recipe's part about the data.
    """

    families: Families = TIMM
    """Models of other projects that a recipe may name."""
    in_channels: int | None = None
    """Channels of the model's input; None for the usual number of the modality."""
    grid: Sequence[int] | None = None
    """Spatial size of the model's input, for models built for a fixed size."""
    num_views: int | None = 1
    """Views of a sample in an evaluation, such as parts of a long one, whose probabilities are averaged. None where
    samples have different numbers; then the example of one with several has `views`, their number."""
    views_called: str = "views"
    """What the views are, such as `windows` of a sound."""
    protocol: str = ""
    """The views of a sample that an evaluation uses, shown next to a score; empty where there is one way only."""
    uses_randomness: bool = True
    """Whether `example` draws from torch's global generator in training; False saves seeding it for every sample."""
    multi_label: bool = False
    """Whether a sample has any number of labels instead of one."""
    mixes: bool = False
    """Whether `augment` mixes samples, and replaces labels by probabilities."""
    reader: str = "files"
    """What reads a file, with its options: the files that it can read are remembered for it alone."""
    about: About = About()
    """Facts about the data and the task for the model card."""

    def __init__(
        self, recipe: ClassificationRecipe, source: ClassificationSource, options: FolderData | None = None
    ) -> None:
        self.recipe = recipe
        self.source = source
        self.root = Path("." if options is None else options.root)
        self.cache = options is not None and options.cache
        self.skip_unreadable = options is not None and options.unreadable == "skip"
        if source.multi_label:
            self.multi_label = True
        self.sampling: str = getattr(options, "sampling", "shuffled")
        self.limit: int | None = getattr(options, "limit", None)
        check(self.limit is None or self.limit >= 1, "data.limit", self.limit, "at least 1")
        self._check_one_label()
        self._readable: dict[Split, LabelledSamples] = {}
        self._limited: dict[Split, LabelledSamples] = {}
        self._num_beyond: dict[Split, int] = {}

    def _check_one_label(self) -> None:
        """Refuse to treat classes evenly in two ways at once, or where a sample has several; and an unfit score."""
        recipe = self.recipe
        options = {"class_weights": recipe.class_weights == "balanced", "data.sampling": self.sampling == "balanced"}
        chosen = [f"{name}: balanced" for name, is_balanced in options.items() if is_balanced]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} would correct for uneven classes twice; use one of the two")
        if chosen and self.multi_label:
            raise ValueError(f"{chosen[0]} is for sets with one label a sample; this one has any number of them")
        scores = ("mAP", "f1") if self.multi_label else ("accuracy", "mean_class_accuracy", "top5")
        if recipe.eval_metric not in (None, *scores):
            raise ValueError(f"eval_metric must be one of {', '.join(scores)} here; got {recipe.eval_metric}")

    # The modality's part.

    @abstractmethod
    def load_sample(self, source: Any, *, training: bool) -> Tensor:
        """Read a source, such as a path, to a tensor.

        Raises:
            UnreadableFileError: the file is damaged, or not of the modality.
        """

    @abstractmethod
    def plot(self, axes: Axes, x: Tensor) -> None:
        """Plot the `input` of an example, one view of it."""

    def plot_input(self, axes: Axes, x: Tensor) -> None:
        """Plot the `input` of a sample after `to_input` and `augment`, where that is not what `plot` takes."""
        self.plot(axes, x)

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Turn the tensor of `load_sample` into `input` and other entries, with random changes in training.

        Where a sample has several views in an evaluation, they are the first axis.
        """
        return {"input": raw}

    def to_input(self, batch: Batch) -> Batch:
        """Turn the examples of a batch into the model's input."""
        return batch

    def augment(self, batch: Batch) -> Batch:
        """Augment a training batch after `to_input`.

        Use its `seed`, int64 `[batch]`, with `uniforms` for random numbers. Its `label` is `[batch]`, or zeros and ones
        `[batch, classes]` with several labels. Where samples are mixed, replace it by probabilities `[batch, classes]`.
        """
        return batch

    def model_args(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the arguments of the model."""
        return (batch["input"],)

    def describe_decoders(self) -> str:
        """Say in one line which libraries read files here; nothing where there is but one way.

        Raises:
            MissingDecoderError: none of them can be used.
        """
        return ""

    def preprocessing(self) -> dict[str, Any]:
        """Return how samples become the model's input, for users who look into config.json.

        `modality` names the app that opens the checkpoint. By `mean` and `std` of pixels from 0 to 1, or the `rms` of
        sounds, a model tells an input that was not prepared. The rest is for people; the recipe is what counts.
        """
        return {}

    # What the engine asks, see `eyetoy_train.task.Task`.

    @property
    def score(self) -> str:
        """Name of the metric by which the best epoch is chosen."""
        if self.recipe.eval_metric is not None:
            return self.recipe.eval_metric
        return "mAP" if self.multi_label else "accuracy"

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels. Asked for after `prepare`."""
        return self.source.classes

    def prepare(self) -> None:
        """Write or fetch the data if they are missing; read all files once if unreadable ones are to be left out."""
        decoders = self.describe_decoders()
        if decoders and PartialState().is_main_process:
            log(decoders)
        self.source.prepare()
        self._inventory().tell()

    def score_by(self, labels: Sequence[str], *, whole: bool = False) -> None:
        """Number the classes as a trained model does, to score it; call it before `prepare`, and train no more.

        Args:
            labels: the classes of the model. The data may have fewer of them, in any order.
            whole: put the samples of all splits into `test`.
        """
        self.source = RelabelledSource(self.source, labels, whole=whole)

    def _inventory(self) -> Inventory:
        """Return what was read: the classes and the samples of every split, without those that cannot be read."""
        sizes: dict[Split, int | str] = {}
        labels: dict[Split, Counter[int]] = {}
        listed: dict[Split, LabelledSamples] = {}
        unreadable = 0
        for split in get_args(Split):
            samples = self._samples(split)
            if isinstance(samples, SampleStream):
                sizes[split] = f"a stream of {samples.num_shards:,} parts"
            elif samples is not None:
                readable = self._readable_samples(split, samples) if self.skip_unreadable else samples
                sizes[split], labels[split] = len(readable), labels_of(readable)
                if readable and not labels[split]:
                    raise ValueError(
                        f"none of the {len(readable):,} {split} samples in {self.root} has a label; label them, or "
                        "take the split away"
                    )
                listed[split] = readable
                unreadable += len(samples) - len(readable)
        beyond = {f"samples beyond data.limit {self.limit}": sum(self._num_beyond.values())}
        left_out = {"unreadable files": unreadable, **beyond}
        return self.source.inventory(sizes, labels, left_out, listed)

    def _samples(self, split: Split) -> LabelledSamples | SampleStream | None:
        """Return the samples of a split, no more than the recipe's limit."""
        if split in self._limited:
            return self._limited[split]
        samples = self.source.split(split)
        if self.limit is None or samples is None:
            return samples
        if isinstance(samples, SampleStream):
            raise ValueError(f"data.limit={self.limit} is for sets that are not streamed; take max_steps for a stream")
        self._limited[split] = limited(samples, self.limit, self.recipe.seed)
        self._num_beyond[split] = len(samples) - len(self._limited[split])
        return self._limited[split]

    def _readable_samples(self, split: Split, samples: LabelledSamples) -> LabelledSamples:
        """Return the samples of a split that can be read; they are read once, and the others are named."""
        if split not in self._readable:
            # The splits of a folder share the record of whole files, which is written for all of them at once.
            shares = isinstance(self.source, FolderSource | RelabelledSource)
            together = get_args(Split) if shares else (split,)
            found = {name: samples if name == split else self._samples(name) for name in together}
            listed = {name: given for name, given in found.items() if isinstance(given, Sequence)}
            self._readable |= without_unreadable(
                listed,
                self.root,
                lambda source: self.load_sample(source, training=False),
                self.classes,
                reader=self.reader,
            )
        return self._readable[split]

    def dataset(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split as dicts with `input` and `label`."""
        return self._read(split, training=split == "train")

    def evaluation_set(self, split: Split) -> Dataset[Batch] | SampleStream | None:
        """Return a split without augmentation, also that of training."""
        return self._read(split, training=False)

    def _read(self, split: Split, *, training: bool) -> Dataset[Batch] | SampleStream | None:
        samples = self._samples(split)
        if samples is None:
            return None
        if not isinstance(samples, SampleStream):
            readable = self._readable_samples(split, samples) if self.skip_unreadable else samples
            dataset = SampleDataset(self, readable, training=training)
            if training and self.sampling == "balanced":
                dataset.balanced_labels = [label for _, label in readable]
            return dataset
        for option, choice in (("class_weights", self.recipe.class_weights), ("data.sampling", self.sampling)):
            if training and choice == "balanced":
                raise ValueError(f"{option}: balanced counts the samples of every class, which a stream does not tell")
        # A partial of a method, not a closure: the stream is pickled for workers that are spawned.
        decode = partial(self._decode, training=training)
        collate = None if training else self.collate
        return DecodedStream(samples, decode, skip_unreadable=self.skip_unreadable, collate=collate)

    def _decode(self, source: Any, label: Any, *, training: bool) -> Batch:
        example = self.example(self.load_sample(source, training=training), training=training)
        return example | {"label": self.target(label)}

    def target(self, label: Any) -> Any:
        """Return a label in the form that a batch holds: its number, or zeros and ones for all classes."""
        if not self.multi_label:
            return label
        return torch.zeros(len(self.classes)).index_fill_(0, torch.tensor(label, dtype=torch.long), 1.0)

    @property
    def model_recipe(self) -> ModelRecipe:
        """The model's part of the recipe, with what its options leave to the data."""
        return self.recipe.model

    def build_model(self) -> nn.Module:
        """Return the recipe's model.

        Raises:
            ValueError: there is one class alone, or no more classes than `eval_metric` counts as right, or the recipe's
                model cannot be built.
        """
        if len(self.classes) < 2 and not self.multi_label:
            raise ValueError(
                f"the data have one class, {named(self.classes)}, and a classifier needs two or more; add a folder for "
                "what is not of it"
            )
        if self.recipe.eval_metric == "top5" and len(self.classes) <= 5:
            raise ValueError(
                f"eval_metric: top5 is 100 % of any model with {len(self.classes)} classes; it needs six or more"
            )
        return build_classifier(
            self.model_recipe,
            num_classes=len(self.classes),
            in_channels=self.in_channels,
            grid=self.grid,
            families=self.families,
            classes=self.classes,
        )

    @cached_property
    def _class_weights(self) -> Tensor | None:
        """The recipe's weights of the classes, `[classes]`."""
        if self.recipe.class_weights == "none":
            return None
        dataset = self.dataset("train")
        assert isinstance(dataset, SampleDataset)
        return class_weights([label for _, label in dataset.samples], len(self.classes))

    @property
    def num_averaged(self) -> Callable[[Batch], float] | None:
        """Returns the weights of a batch's samples, by whose sum the loss is divided; None if it is not."""
        weights = self._class_weights
        if weights is None or self.mixes:  # with probabilities the number of samples divides it
            return None
        return lambda batch: float(weights[batch["label"]].sum())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy of a batch; the mean of binary ones where a sample has several labels."""
        batch = self.augment(self.to_input(batch))
        logits, target, smoothing = model(*self.model_args(batch)), batch["label"], self.recipe.label_smoothing
        if self.multi_label:
            # Smoothed towards 1/2, the even choice of a binary decision; F.cross_entropy does it towards 1 / classes.
            return F.binary_cross_entropy_with_logits(logits, target * (1 - smoothing) + smoothing / 2)
        if self._class_weights is not None:
            return weighted_cross_entropy(logits, target, self._class_weights.to(logits.device), smoothing)
        return F.cross_entropy(logits, target, label_smoothing=smoothing)

    def collate(self, examples: Sequence[Batch]) -> Batch:
        """Make a batch of an evaluation's examples.

        Where some have `views`, a number of them, the views of all examples follow one another in every entry but
        `label`, and `views` has the number of each example's.
        """
        if not any("views" in example for example in examples):
            batch: Batch = default_collate(list(examples))
            return batch
        # `views` first: the engine takes the length of the first entry for the number of samples.
        batch = {"views": torch.tensor([int(example.get("views", 1)) for example in examples])}
        for key in examples[0]:
            if key == "label":
                batch[key] = default_collate([example[key] for example in examples])
            elif key != "views":
                batch[key] = torch.cat([x[key] if "views" in x else x[key][None] for x in examples])
        return batch

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits, `[batch, classes]`; with several views, the logits of their mean probability."""
        if "views" in batch:
            return self._outputs_of_views(model, batch)
        if self.num_views in (1, None):
            logits: Tensor = model(*self.model_args(self.to_input(batch)))
            return logits
        # View by view, so that many views take no more memory than one.
        views = [{key: x[:, i] if key != "label" else x for key, x in batch.items()} for i in range(self.num_views)]
        each = [self.probabilities(model(*self.model_args(self.to_input(view)))) for view in views]
        return self._logits(torch.stack(each).mean(0))

    def _outputs_of_views(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the outputs of a batch of `collate` whose samples have different numbers of views."""
        counts = batch["views"].tolist()
        views = {key: x for key, x in batch.items() if key not in ("views", "label")}
        rows = max(len(counts), VIEWS_AT_ONCE)  # so that many views take no more memory than a batch
        parts = [{key: x[i : i + rows] for key, x in views.items()} for i in range(0, sum(counts), rows)]
        logits = torch.cat([model(*self.model_args(self.to_input(part))) for part in parts])
        each = torch.split(logits, counts)
        # The logits of a single view as they are: nothing is averaged.
        found = [x[0] if len(x) == 1 else self._logits(self.probabilities(x).mean(0)).to(x.dtype) for x in each]
        return torch.stack(found)

    def _logits(self, mean: Tensor) -> Tensor:
        """Return the logits of mean probabilities, which the metrics take."""
        # The bounds keep a probability of 0 (or 1) finite.
        return mean.logit(eps=1e-7) if self.multi_label else mean.clamp_min(1e-12).log()

    def middle_view(self, example: Batch) -> Batch:
        """Return an example with the middle one of its views alone; the label as it is."""
        count = int(example.get("views", self.num_views or 1))
        if count == 1:
            return example
        return {key: x if key == "label" else x[count // 2] for key, x in example.items() if key != "views"}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the classes in float32; independent ones where a sample has several labels."""
        return logits.float().sigmoid() if self.multi_label else logits.float().softmax(-1)

    def metrics(self) -> ClassificationMetrics | MultiLabelMetrics:
        """Return new metrics."""
        kind = MultiLabelMetrics if self.multi_label else ClassificationMetrics
        return kind(len(self.classes), self.classes)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the labels and the recipe."""
        save_model(model, folder, id2label=dict(enumerate(self.classes)), preprocessing=self.preprocessing())
        (folder / "labels.json").write_text(json.dumps(list(self.classes), indent=2), encoding="utf-8")
        (folder / "recipe.yaml").write_text(recipe_text(self.recipe), encoding="utf-8")

    def load(self, folder: Path) -> nn.Module:
        """Return the model that `save` wrote."""
        return load_classifier(folder, self.families, warns_of_raw_input=False)  # the task prepares what it gives to it

    def write_samples(self, model: nn.Module, split: Split, path: Path, *, count: int = 24) -> list[Path]:
        """Draw `count` samples of a split, spread over its classes, with the model's predictions.

        Returns:
            files that play them, if the task is `Playable`, in a folder next to the figure.
        """
        dataset = self.dataset(split)
        assert dataset is not None
        return self._draw(model, spread_samples(dataset, count), path)

    def predictions(self, sums: dict[str, Tensor], split: Split) -> Table:
        """Return a row for each sample of a split, mistakes first; see `Listing`."""
        dataset = self.dataset(split)
        rows: list[tuple[str, str, str, float]] = []
        if isinstance(dataset, SampleDataset):
            for one in self.metrics().judged(sums):
                source, _ = dataset.samples[one.index]
                truth, prediction = (self._named(labels) for labels in (one.truth, one.prediction))
                rows.append((source_name(source, one.index), truth, prediction, round(one.confidence, 4)))
        return Table("Predictions", ("file", "truth", "prediction", "confidence"), rows)

    def write_mistakes(
        self, model: nn.Module, sums: dict[str, Tensor], split: Split, path: Path, *, count: int = 12
    ) -> list[Path] | None:
        """Draw the mistakes of which the model was surest; see `Listing`."""
        dataset = self.dataset(split)
        if not isinstance(dataset, SampleDataset):
            return None
        wrong = [dataset[one.index] for one in self.metrics().judged(sums)[:count] if not one.is_right]
        return self._draw(model, wrong, path) if wrong else None

    def _named(self, labels: Sequence[int]) -> str:
        return self._joined([self.classes[label] for label in labels])

    def _joined(self, names: Sequence[str]) -> str:
        """Return the names of a sample's classes as one text, which tells sets of classes apart."""
        # Of several labels, `a, b` may be one name or two.
        unlike = [json.dumps(name, ensure_ascii=False) if self.multi_label and ", " in name else name for name in names]
        return ", ".join(unlike) or NO_LABEL

    def _draw(self, model: nn.Module, examples: Sequence[Batch], path: Path) -> list[Path]:
        """Draw examples with a model's predictions, and return files that play them; see `write_samples`."""
        batch = self.collate(examples)
        model.eval()
        with torch.inference_mode():
            outputs = self.outputs(model, send_to_device(batch, next(model.parameters()).device))
        # Judged as in the scores and in the list of predictions.
        metrics = self.metrics()
        metrics.update(outputs, batch | {"index": torch.arange(len(examples))})
        judged = metrics.judged({name: torch.cat(rows) for name, rows in metrics.rows.items()})
        views = [self.middle_view(example)["input"] for example in examples]
        samples = [
            LabelledSample(
                # x=x: a lambda sees the variable, which is the last sample by the time that it is called.
                draw=lambda axes, x=x: self.plot(axes, x),  # type: ignore[misc]
                truth=self._named(one.truth),
                prediction=self._named(one.prediction),
                confidence=one.confidence,
                is_right=one.is_right,
            )
            for x, one in zip(views, sorted(judged, key=lambda one: one.index), strict=True)
        ]
        draw_samples(samples, path)
        if not isinstance(self, Playable):
            return []
        named = zip(views, enumerate(samples, 1), strict=True)
        return [self.play(x, sample_file(path.with_suffix(""), number, sample)) for x, (number, sample) in named]

    def write_batch(self, batch: Batch, path: Path, *, count: int = 24) -> None:
        """Draw the first `count` samples of a training batch, augmented and mixed as the model gets them."""
        with torch.no_grad():
            batch = self.augment(self.to_input(batch))
        samples = [
            # x=x: see `write_samples`.
            TitledSample(draw=lambda axes, x=x: self.plot_input(axes, x), title=self._title(label))  # type: ignore[misc]
            for x, label in zip(batch["input"][:count].float().cpu(), batch["label"][:count].cpu(), strict=True)
        ]
        draw_titled(samples, path)

    def _title(self, label: Tensor) -> str:
        """Return the class of a label, or its classes, with their shares where samples are mixed, a line for each."""
        if label.ndim == 0:
            return self.classes[int(label)]
        shares = [(float(share), name) for share, name in zip(label, self.classes, strict=True) if share >= LEAST_SHARE]
        if all(share == 1 for share, _ in shares):
            return self._joined([name for _, name in shares])
        return "\n".join(f"{share:.0%} {name}" for share, name in sorted(shares, reverse=True)[:MOST_SHARES])


class FolderClassification(ClassificationTask):
    """A classification task whose samples are files in class folders; see `read_class_folder`.

    Args:
        recipe: the recipe; its seed decides which files are held out where there are no split folders.
        data: the recipe's part about the files.
        extensions: lower-case suffixes of the files to list.
    """

    def __init__(self, recipe: ClassificationRecipe, data: FolderData, extensions: Collection[str]) -> None:
        source = FolderSource.of_classes(data.root, extensions, recipe.seed, grouping=Grouping.of(data))
        super().__init__(recipe, source, data)


@runtime_checkable
class Timeline(Protocol):
    """A task that can classify parts of a file in time."""

    def parts(self, source: Path, seconds: float) -> Iterator[tuple[float, float, Batch]]:
        """Read a file in parts of about `seconds`.

        Yields:
            start and end of a part, in seconds, and its example.

        Raises:
            ValueError: `seconds` is too short for the model's input.
        """


@runtime_checkable
class TakesArrays(Protocol):
    """A task that classifies what is in memory, too; see `ClassifierPredictor`."""

    batched_axes: int | None
    """Axes of an array that holds a batch of samples; None where a batch is always a list."""

    def load_array(self, given: Any, rate: float | None) -> Tensor:
        """Return what `load_sample` returns for a file with the same content.

        Args:
            given: an array, or another object in memory that stands for a sample.
            rate: samples or frames of it per second, where that matters.

        Raises:
            ValueError: it is no such sample, or the rate is missing or makes no sense.
        """


@runtime_checkable
class Playable(Protocol):
    """A task whose samples can be played: a plot does not show everything of a sound or a video."""

    def play(self, x: Tensor, path: Path) -> Path:
        """Write the `input` of an example to a file that a browser plays, and return the file.

        Args:
            x: one view of a sample.
            path: where to write it, without a suffix.
        """


def equal_spans(total: float, seconds: float) -> list[tuple[float, float]]:
    """Cut `total` seconds into equal parts of about `seconds`; for example 10 s by 3 s into three parts of 3.33 s."""
    count = max(round(total / seconds), 1)
    return [(total * i / count, total * (i + 1) / count) for i in range(count)]
