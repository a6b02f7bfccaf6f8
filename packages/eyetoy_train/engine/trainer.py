"""The training loop, top to bottom: `train` starts a run, `Trainer.fit` loops, `Trainer.train_step` learns."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device, set_seed
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset

from eyetoy_train.checkpoint.checkpointer import Checkpointer, resume_weights
from eyetoy_train.checkpoint.retention import CheckpointStore
from eyetoy_train.checkpoint.run_folder import RunFolder, append_line, read_lines, run_lock
from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.data.loading import training_data
from eyetoy_train.data.unreadable import UnreadableFileError
from eyetoy_train.engine.data_record import refuse_other_data, write_data_record
from eyetoy_train.engine.evaluation import Evaluation
from eyetoy_train.engine.setup import (
    begin_run,
    build_accelerator,
    check_micro_batch,
    check_trackers,
    describe_environment,
    describe_start,
    deterministic,
    keep_threads,
    lacks_sharding,
    loading_of,
    open_run,
    prepare,
    prepare_data,
    start_trackers,
    use_all_cores,
)
from eyetoy_train.engine.step_recorder import NotFiniteError, StepRecorder
from eyetoy_train.optim.build import build_optimizer
from eyetoy_train.optim.ema import Ema
from eyetoy_train.optim.schedule import (
    DropPathWarmup,
    learning_rate,
    run_lengths,
    set_learning_rate,
    short_run_warnings,
)
from eyetoy_train.recipe import CUDA_GRAPHS, Recipe, recipe_text
from eyetoy_train.report.model_card import CARD, FinishedRun, card_text
from eyetoy_train.report.page import write_report
from eyetoy_train.task import Task
from eyetoy_train.types import Batch, CheckpointError, SampleStream, Split
from eyetoy_train.utils.console import EpochBar, Timed, duration, log, peak_memory_bytes, score_text
from eyetoy_train.utils.files import write_text
from eyetoy_train.utils.seeds import derive_seed, seed_generators
from eyetoy_train.utils.signals import Preempted, StopRequested, StopSignal

RUNNING = (OSError, CheckpointError, FloatingPointError, UnreadableFileError)
"""What may go wrong in a run that has started: a full disk, a loss that is not finite, a damaged file."""


def train(task: Task, recipe: Recipe) -> dict[str, Any]:
    """Train `task` by `recipe` and return the content of results.json: the scores of the best epoch, and where it ran.

    Run it under `accelerate launch` to use several devices. The run's folder ends up with recipe.yaml, metrics.jsonl,
    steps.jsonl, the best and the latest checkpoints, TensorBoard events, pictures, report.html and results.json. A run
    that was interrupted resumes from its latest checkpoint, at the next batch, and ends as if it had not been.

    Args:
        task: the data, the model, the loss and the metrics.
        recipe: everything else.

    Returns:
        Scores by split, the best epoch, and notes on the run.

    Raises:
        ValueError: the recipe does not fit the data or the number of processes.
        FileExistsError: the recipe's `output_dir` is taken, or another process is training in the run's folder.
        FloatingPointError: the loss or a gradient is not finite; the message names the step and the batch.
        CheckpointError: a checkpoint cannot be written, or the latest one cannot be read.
        Preempted: SIGTERM or Ctrl-C was received; the run was saved. Ends a program with code 143 or 130.
    """
    with started_run(task, recipe) as trainer:
        return trainer.fit()


@contextmanager
def started_run(task: Task, recipe: Recipe, *, all_cores: bool = False) -> Iterator[Trainer]:
    """Give the `Trainer` of a run, whose folder is locked in the `with` block. Arguments and errors as in `train`.

    What is wrong with the recipe, the data or the machine is found out here, before the first step. With `all_cores` a
    CPU computes with as many threads as it has cores, unless the user has chosen a number.
    """
    check_trackers(recipe.trackers)
    run = open_run(recipe)
    accelerator = build_accelerator(recipe, run)
    is_free = all_cores and use_all_cores(accelerator)
    prepare_data(task, accelerator)
    # After `prepare_data`, which may draw random numbers, but only in the run that finds no data on disk yet.
    set_seed(recipe.seed)
    lock = run_lock(run.path) if accelerator.is_main_process else nullcontext()
    with lock, deterministic(recipe.deterministic), StopSignal(accelerator) as stop:
        trainer = Trainer(task, recipe, run=run, accelerator=accelerator, stop=stop)
        keep_threads(trainer.state, accelerator, is_free=is_free)
        # Not before the Trainer, which may refuse the recipe: a run that cannot start leaves nothing behind.
        start_trackers(accelerator, recipe.trackers, run, recipe_text(recipe), trainer.state.step)
        try:
            yield trainer
        finally:
            trainer.data.close()
    accelerator.end_training()


class Trainer:
    """One process's part in a run. `train` builds it; every process has one, and all of them take the same steps.

    Args:
        task: the data, the model, the loss and the metrics.
        recipe: how to train.
        run: the folder of the run.
        accelerator: the processes and their devices.
        stop: tells of SIGTERM and Ctrl-C.

    Raises:
        ValueError: the recipe does not fit the data or the number of processes.
        CheckpointError: the latest checkpoint is damaged, or of another model.
    """

    def __init__(
        self, task: Task, recipe: Recipe, *, run: RunFolder, accelerator: Accelerator, stop: StopSignal
    ) -> None:
        self.task, self.recipe, self.run, self.accelerator, self.stop = task, recipe, run, accelerator, stop
        check_micro_batch(task, recipe, accelerator.num_processes)
        self.mark_pass = pass_marker(recipe, accelerator.device)

        train_set, val_set = task.dataset("train"), task.dataset("val")
        if train_set is None or val_set is None:
            raise ValueError("the data need a training and a validation split")
        self.data, self.val_set = training_data(train_set, loading_of(recipe, accelerator)), val_set
        self.lengths = run_lengths(recipe, self.data.steps_per_epoch)

        # The order of what follows matters. Weights are loaded into the plain model, which has the names of the
        # checkpoint. The optimizer is built before `prepare`, which replaces its parameters by shards; its state and
        # the average are restored after it, because they are sharded like the parameters.
        model = task.build_model()
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self.drop_path = DropPathWarmup(model, recipe.drop_path_warmup_epochs * self.lengths.steps_per_epoch)
        optimizer = build_optimizer(model, recipe)
        latest = begin_run(run, recipe, accelerator)
        if latest:
            refuse_other_data(run, task)
            resume_weights(model, latest)
        elif accelerator.is_main_process:
            write_data_record(run, task)
        if recipe.model.compile:
            model.compile(mode="default" if recipe.model.compile is True else recipe.model.compile)
        self.model, self.optimizer = prepare(accelerator, model, optimizer)
        # Listed once: to walk through a model takes longer than to take the norm of its gradients.
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.ema = Ema(accelerator.unwrap_model(self.model), recipe.ema) if recipe.ema.decay is not None else None
        self.checkpointer = Checkpointer(
            task=task,
            accelerator=accelerator,
            store=CheckpointStore(run.checkpoints, recipe.checkpoints),
            model=self.model,
            optimizer=self.optimizer,
            ema=self.ema,
        )
        self.evaluation = Evaluation(
            task,
            accelerator,
            batch_size=recipe.eval_batch_size,
            num_workers=recipe.num_workers,
            before_batch=self._before_evaluated_batch,
        )
        self.state = self._reached(latest)
        self._saved_step = self.state.step
        """Step of the latest checkpoint."""
        self.recorder = StepRecorder(accelerator, self.state)

        if accelerator.is_main_process:
            # Also without a checkpoint: a run that was killed before its first one has written lines too.
            run.forget_after(self.state.epoch, self.state.step)
            line = describe_start(recipe, run, accelerator, self.data.num_samples, num_parameters)
            if self.state.step:
                line += f"; going on after step {self.state.step}, epoch {self.state.epoch + 1}"
            log(line)
            for warning in (*short_run_warnings(recipe, self.lengths), *self.drop_path.warnings()):
                log(f"warning: {warning}", file=sys.stderr)
            if lacks_sharding(accelerator):
                log("FSDP was asked for, but Accelerate shards on GPUs only: every process here holds the whole model")
        self._clock = time.perf_counter()

    def _reached(self, latest: Path | None) -> TrainState:
        """Return how far the run has come, and go on with the data from there."""
        if latest is None:
            return TrainState()
        state = self.checkpointer.load(latest)
        self.data.resume(state.stream)
        return state

    def fit(self) -> dict[str, Any]:
        """Train what is left of the run, then score its best model; return the content of results.json."""
        state, lengths = self.state, self.lengths
        num_micro_batches, size = self.recipe.gradient_accumulation_steps, self.recipe.batch_size
        try:
            while not state.has_stalled and state.epoch < lengths.num_epochs:
                # A run that was interrupted within an epoch resumes in its middle. For example, with 19 steps in an
                # epoch, step 310 is in epoch 16 (from 0), which began at step 304: 6 steps to skip, 13 left.
                first = state.epoch * lengths.steps_per_epoch
                skip, count = state.step - first, min(lengths.steps_per_epoch, lengths.num_steps - first)
                batches = Timed(
                    self.data.micro_batches(
                        first * num_micro_batches,
                        skip=skip * num_micro_batches,
                        count=(count - skip) * num_micro_batches,
                    )
                )
                self.model.train()
                with EpochBar(
                    state.epoch + 1,
                    lengths.num_epochs,
                    count * size,
                    initial=skip * size,
                    visible=self.accelerator.is_main_process,
                ) as bar:
                    for _ in range(skip, count):
                        self.train_step(batches)
                        bar.update(size, self._postfix)
                self._read_steps()
                self.finish_epoch(self.evaluate_epoch())
            self.data.close()  # the evaluation has workers of its own
            return self.finish()
        except StopRequested as stop:
            # SIGTERM or Ctrl-C. `StopSignal.check` raises this between two steps, or between two batches of an
            # evaluation, at the same place on all processes: so the weights are those after `state.step`, and everybody
            # is here.
            self.checkpoint()
            message = f"{stop}: saved after step {state.step}; the same command goes on from there"
            if self.accelerator.is_main_process:
                log(message)
            raise Preempted(message, stop.number) from None

    def train_step(self, batches: Timed[Batch]) -> None:
        """Take one optimizer step on the next micro batches, and record it.

        A step depends on its number, its samples and the state before it, on nothing else. This is why a run that
        resumes repeats exactly what an uninterrupted one would have done.
        """
        started, waited = time.perf_counter(), batches.seconds
        accelerator, state, recipe = self.accelerator, self.state, self.recipe
        num_micro_batches = recipe.gradient_accumulation_steps
        set_learning_rate(self.optimizer.param_groups, learning_rate(state.step, recipe, self.lengths))
        self.drop_path.set(state.step)

        losses, parts = [], list[dict[str, Tensor]]()
        first = state.step * num_micro_batches
        shares = self._shares(batches)
        for micro_batch in range(first, first + num_micro_batches):  # numbered from the start of the run
            batch, share = next(shares)
            batch = send_to_device(batch, accelerator.device, non_blocking=True)
            # Dropout and stochastic depth draw from the global generators. Seeded for each micro batch, they draw the
            # same whatever was drawn before; the process is part of the seed, because it has samples of its own.
            seed = derive_seed(recipe.seed, "pass", micro_batch, accelerator.process_index)
            seed_generators(seed, accelerator.device)
            self.mark_pass()
            # `accumulate` counts the micro batches. Until the last one of a step, it keeps processes from exchanging
            # gradients and turns the optimizer's calls into nothing; `backward` divides the loss by their number.
            with accelerator.accumulate(self.model):
                with accelerator.autocast():
                    loss = self.task.loss(self.model, batch)
                if share is not None:
                    loss = loss * share
                accelerator.backward(loss)
            losses.append(loss.detach())
            named = getattr(self.task, "loss_parts", {})
            parts.append(named if share is None else {name: part * share for name, part in named.items()})
            del batch, loss  # and with the loss its graph, before the optimizer needs memory

        norm = self._clip_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(state.step)
        self.recorder.add(
            state.step, mean_of(losses), norm, {name: mean_of([one[name] for one in parts]) for name in parts[0]}
        )
        state.step += 1
        if len(self.recorder) >= recipe.log_steps:
            self._read_steps()
        state.stats.seconds += time.perf_counter() - started
        state.stats.seconds_waited += batches.seconds - waited
        self.stop.check()
        every = recipe.checkpoints.every_steps
        if every and state.step % every == 0:
            self.checkpoint()

    def _before_evaluated_batch(self) -> None:
        self.stop.check()
        self.mark_pass()

    def _shares(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Tensor | None]]:
        """Yield the micro batches of a step, each with the factor of its loss; None where it is 1.

        A loss that is a mean over what samples have many or few of, such as labelled pixels, is not the mean of the
        means of parts. For example, with 16 labelled pixels in one micro batch and 2,304 in another, the factors are
        2 * 16 / 2,320 and 2 * 2,304 / 2,320, so that the mean over both counts every pixel once.
        """
        num_micro_batches, num_processes = self.recipe.gradient_accumulation_steps, self.accelerator.num_processes
        count = getattr(self.task, "num_averaged", None)
        if count is None or num_micro_batches * num_processes == 1:
            for _ in range(num_micro_batches):
                yield next(batches), None
            return
        # The total must be known before the first backward pass, so all micro batches of the step wait in memory.
        waiting = [next(batches) for _ in range(num_micro_batches)]
        counts = torch.tensor([count(batch) for batch in waiting], dtype=torch.float32, device=self.accelerator.device)
        total = counts.sum()
        if num_processes > 1:
            total = cast("Tensor", self.accelerator.reduce(total, reduction="sum"))
        factors = counts * (num_micro_batches * num_processes) / total.clamp(min=torch.finfo(total.dtype).tiny)
        while waiting:  # popped, so that a batch is freed once it has been learned
            yield waiting.pop(0), factors[-len(waiting) - 1]

    def _clip_gradients(self) -> Tensor:
        """Clip the gradients to the norm of the recipe, if it has one, and return the norm that they had."""
        norm: Tensor
        if self.recipe.clip_grad_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.recipe.clip_grad_norm)
        else:
            self.accelerator.unscale_gradients()  # of fp16; clipping does it by itself
            norm = total_norm([gradient for parameter in self.parameters if (gradient := parameter.grad) is not None])
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def _read_steps(self) -> None:
        """Look at the losses of the latest steps, and log them."""
        try:
            summary = self.recorder.flush()
        except NotFiniteError as error:
            raise FloatingPointError(self._explain(error)) from error
        if summary is None:
            return
        lr = learning_rate(summary.step, self.recipe, self.lengths)
        values = {"loss": summary.loss, "lr": lr, "grad_norm": summary.grad_norm, **summary.parts}
        if self.accelerator.is_main_process:
            append_line(self.run.steps, {"step": summary.step + 1, **values})
        self.accelerator.log({f"train/{key}": value for key, value in values.items()}, step=summary.step + 1)

    def _explain(self, error: NotFiniteError) -> str:
        num_micro_batches = self.recipe.gradient_accumulation_steps
        epoch, place = divmod(error.step, self.lengths.steps_per_epoch)
        checkpoints = self.checkpointer.store.steps()
        samples = self.data.describe(error.step * num_micro_batches, num_micro_batches)
        return (
            f"{error} at step {error.step + 1} (epoch {epoch + 1}, batch {place + 1} of "
            f"{self.lengths.steps_per_epoch}: {samples}). The last good checkpoint is "
            f"{checkpoints[-1] if checkpoints else 'none yet'}. A lower lr, a longer warm-up or clip_grad_norm may help"
        )

    def checkpoint(self) -> None:
        """Write a checkpoint to resume from. No loss in it has not been looked at."""
        self._read_steps()
        now = time.perf_counter()
        self.state.seconds += now - self._clock
        self._clock = now
        progress = self.data.progress()
        self.state.stream = None if progress is None else gather_object([progress])
        self.checkpointer.save_step(self.state)
        self._saved_step = self.state.step

    def evaluate_epoch(self) -> dict[str, float] | None:
        """Return the scores on the validation set, or None after an epoch that the recipe does not evaluate."""
        epoch = self.state.epoch + 1
        if epoch % self.recipe.eval_epochs and epoch < self.lengths.num_epochs:
            return None
        # An evaluation may take long and may fail, for example at a damaged file: the epoch must not be lost with it.
        if self._saved_step != self.state.step:
            self.checkpoint()
        with self.checkpointer.averaged():
            return self.task.metrics().compute(self.evaluate(self.val_set, self.model))

    def evaluate(self, dataset: Dataset[Batch] | SampleStream, model: nn.Module) -> dict[str, Tensor]:
        """Return the sums of the metrics of `model` on a dataset. Its random numbers, if any, are always the same."""
        seed = derive_seed(self.recipe.seed, "evaluation", self.accelerator.process_index)
        seed_generators(seed, self.accelerator.device)
        return self.evaluation.sums(model, dataset)

    def finish_epoch(self, scores: dict[str, float] | None) -> None:
        """Record the epoch and write its checkpoints."""
        state = self.state
        state.epoch += 1
        self._log_epoch(scores)
        state.stats = state.stats.next_epoch()
        # The best first. In the other order, a kill between the two would lose this epoch's model for good: the run
        # would resume after the epoch, and never come back to it.
        if scores:
            if state.rank(scores[self.task.score], self.recipe.checkpoints.keep_best, scores.get("loss")):
                self.checkpointer.save_best(state)
            patience = self.recipe.early_stop_epochs
            state.has_stalled = patience is not None and state.epoch - state.last_rise >= patience
        self.checkpoint()

    def _log_epoch(self, scores: dict[str, float] | None) -> None:
        """Write the epoch to metrics.jsonl, the trackers and the terminal."""
        state, stats, num_epochs = self.state, self.state.stats.scores(), self.lengths.num_epochs
        speed = state.stats.speed(self.recipe.batch_size)
        memory = peak_memory_bytes(self.accelerator.device)
        speed |= {} if memory is None else {"peak_memory_gb": memory / 1e9}
        speed = {key: round(value, 4) for key, value in speed.items()}
        values = {f"epoch/{key}": value for key, value in {**stats, **speed}.items()}
        self.accelerator.log(values | {f"val/{key}": value for key, value in (scores or {}).items()}, step=state.step)
        if not self.accelerator.is_main_process:
            return
        lr = learning_rate(state.step - 1, self.recipe, self.lengths)
        line: dict[str, Any] = {"epoch": state.epoch, "step": state.step, "lr": lr, **stats}
        append_line(self.run.metrics, line | ({"val": scores} if scores else {}) | {"speed": speed})

        name = self.task.score
        score = f"validation {name} {score_text(name, scores[name])}  " if scores else ""
        used = "" if memory is None else f"{speed['peak_memory_gb']:.1f} GB  "
        spent = state.seconds + time.perf_counter() - self._clock
        left = spent / state.epoch * (num_epochs - state.epoch)
        log(
            f"epoch {state.epoch:>3}/{num_epochs}  loss {stats['train_loss']:.4f}  {score}"
            f"{speed['samples_per_second']:.0f} samples/s  data {speed['data_wait']:.0%}  {used}"
            + (f"{duration(left)} left" if left else f"{duration(spent)} in all")
        )

    def _postfix(self) -> dict[str, str]:
        """Return what the bar shows beside its own numbers."""
        stats = self.state.stats
        shown = {"loss": f"{stats.window[-1]:.4f}"} if stats.window else {}
        return shown | {"data": f"{stats.seconds_waited / max(stats.seconds, 1e-9):.0%}"}

    def finish(self) -> dict[str, Any]:
        """Score the best model on the test split, and write the report, the model card and results.json."""
        best = self.checkpointer.load_best()
        test_set = self.task.dataset("test")
        sums = {"val": self.evaluate(self.val_set, best), "test": self.evaluate(test_set, best) if test_set else None}
        scores = {split: found and self.task.metrics().compute(found) for split, found in sums.items()}
        lines = read_lines(self.run.metrics)
        results: dict[str, Any] = {
            "best_epoch": self.state.best_epoch,
            **scores,
            "parameters": sum(parameter.numel() for parameter in best.parameters()),
            "training_seconds": round(self.state.seconds, 1),
            "stability": {
                "grad_norm_max": max((line["grad_norm_max"] for line in lines), default=0.0),
                "loss_spikes": sum(line["loss_spikes"] for line in lines),
                "steps": self.state.step,
            },
            "environment": describe_environment(self.accelerator),
        }
        if self.accelerator.is_main_process:
            split: Split = "test" if test_set else "val"
            # The report predicts a few samples on this process alone, which a sharded model cannot do.
            model = self.task.load(self.checkpointer.store.best) if self.checkpointer.is_sharded else best
            write_report(self.run, self.task, self.recipe, model, results, sums[split] or {}, split)
            trained = FinishedRun(self.task, self.recipe, model, results, self.data.num_samples)
            self.checkpointer.store.add_to_best(CARD, card_text(trained))
            # Last: a folder with results is a finished run, and is not touched again.
            write_text(self.run.results, json.dumps(results, indent=2))
            score = score_text(self.task.score, results[split][self.task.score])
            how = f" by {self.task.protocol}" if self.task.protocol else ""
            log(
                f"best epoch {self.state.best_epoch}: {split} {self.task.score} {score} on "
                f"{results[split]['count']:.0f} samples{how}; all of it is in {self.run.path}, report.html first"
            )
        self.accelerator.wait_for_everyone()
        return results


def pass_marker(recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """Return what to call before each pass of the model: it tells CUDA graphs that earlier results are needed no more.

    Raises:
        ValueError: the recipe asks for CUDA graphs, and the device has none.
    """
    if device.type == "cuda":
        return torch.compiler.cudagraph_mark_step_begin if recipe.model.compile in CUDA_GRAPHS else lambda: None
    if recipe.model.compile == "reduce-overhead":
        raise ValueError(
            f"model.compile=reduce-overhead records CUDA graphs, which need a CUDA device; this run is on "
            f"{device.type}: use model.compile=default"
        )
    return lambda: None


def mean_of(values: list[Tensor]) -> Tensor:
    """Return the mean of scalars, which of one is itself."""
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients together.

    Most parameters of a model are short vectors. Their norms one by one take longer than to concatenate them first: so
    this takes half the time of `torch.nn.utils.get_total_norm`, and is still most of what the engine does in a step.
    """
    vectors = [gradient for gradient in gradients if gradient.ndim == 1]
    others = [gradient for gradient in gradients if gradient.ndim != 1]
    if len(vectors) > 1 and not isinstance(vectors[0], DTensor):  # shards cannot be concatenated
        vectors = [torch.cat(vectors)]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vectors + others)))
    return norm
