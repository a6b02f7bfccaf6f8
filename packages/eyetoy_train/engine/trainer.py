"""The training loop, top to bottom."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration, set_seed
from torch import Tensor, nn
from torch.utils.data import Dataset

from eyetoy_train.checkpoint.atomic import write_text
from eyetoy_train.checkpoint.run_folder import append_line, read_lines
from eyetoy_train.checkpoint.run_lock import held
from eyetoy_train.engine.environment import describe_environment, deterministic
from eyetoy_train.engine.evaluation import evaluation_sums
from eyetoy_train.engine.setup import Parts, open_run, prepare_data, start_parts
from eyetoy_train.engine.step_recorder import NotFiniteError, StepRecorder, StepSummary
from eyetoy_train.engine.tracking import check_trackers, start_trackers
from eyetoy_train.optim.schedule import learning_rate
from eyetoy_train.recipe import Recipe, recipe_text
from eyetoy_train.report.model_card import CARD, Trained, card_text
from eyetoy_train.report.page import write_report
from eyetoy_train.task import Task
from eyetoy_train.types import Batch, SampleStream, Split
from eyetoy_train.utils.console import EpochBar, Timed, duration, log, peak_memory_bytes, score_text
from eyetoy_train.utils.seeds import derive_seed, seed_generators
from eyetoy_train.utils.signals import Preempted, StopRequested, StopSignal


def train(task: Task, recipe: Recipe) -> dict[str, Any]:
    """Train `task` by `recipe` and return what results.json holds: the scores of its best epoch, and where it ran.

    Run it under `accelerate launch` to use several devices. The run's folder ends with recipe.yaml, metrics.jsonl,
    steps.jsonl, the best and the latest checkpoints, TensorBoard events, pictures, report.html and results.json. A run
    that was interrupted goes on after its latest checkpoint, at the next batch, and ends as if it had not been.

    Raises:
        ValueError: the recipe does not fit the data or the number of processes.
        FileExistsError: the recipe's `output_dir` is taken, or another process is training in the run's folder.
        FloatingPointError: the loss or a gradient is not finite; the message names the step and the batch.
        CheckpointError: a checkpoint cannot be written, or the latest one cannot be read.
        Preempted: SIGTERM was received; the run was saved. Ends a program with code 143.
    """
    check_trackers(recipe.trackers)
    run = open_run(recipe)
    accelerator = Accelerator(
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        log_with=list(recipe.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(run.path), logging_dir=str(run.tensorboard)),
        # Each process gathers running statistics of its own; `Saver.share_buffers` takes their mean.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    prepare_data(task, accelerator)
    set_seed(recipe.seed)  # after what may have drawn random numbers in the first run only
    lock = held(run.path) if accelerator.is_main_process else nullcontext()
    with lock, deterministic(recipe.deterministic), StopSignal(accelerator) as stop:
        trainer = Trainer(**vars(start_parts(task, recipe, run, accelerator)), stop=stop)
        # After what may refuse the recipe: a run that cannot start leaves nothing.
        start_trackers(accelerator, recipe.trackers, run, recipe_text(recipe), trainer.progress.step)
        results = trainer.run_to_the_end()
    accelerator.end_training()
    return results


@dataclass(kw_only=True)
class Trainer(Parts):
    """One process's part in a run."""

    stop: StopSignal

    def __post_init__(self) -> None:
        """Start to record, and the clock."""
        self.recorder = StepRecorder(self.accelerator, self.progress.record)
        self._started = time.perf_counter()

    def run_to_the_end(self) -> dict[str, Any]:
        """Train what is left of the run, then score its best model."""
        try:
            while not self.is_done:
                self.train_one_epoch()
                scores = self.evaluate_epoch()
                self.finish_epoch(scores)
            return self.finish()
        except StopRequested:
            self.checkpoint()
            message = f"SIGTERM: saved after step {self.progress.step}; the same command goes on from there"
            self._log(message)
            raise Preempted(message) from None

    @property
    def is_done(self) -> bool:
        """Whether the run has its length, or has stopped early."""
        return self.progress.has_stalled or self.progress.epoch >= self.stepper.lengths.num_epochs

    def train_one_epoch(self) -> None:
        """Take the optimizer steps that are left of the epoch."""
        lengths, progress, passes = self.stepper.lengths, self.progress, self.recipe.gradient_accumulation_steps
        first = progress.epoch * lengths.steps_per_epoch
        skip, count = progress.step - first, min(lengths.steps_per_epoch, lengths.num_steps - first)
        batches = Timed(self.data.passes(first * passes, skip=skip * passes, count=(count - skip) * passes))
        self.stepper.model.train()
        with self._bar(skip, count) as bar:
            for _ in range(skip, count):
                self._step(batches)
                bar.update(self.recipe.batch_size, self._state_of_things)
        self._read_steps()

    def _step(self, batches: Timed[Batch]) -> None:
        started, waited = time.perf_counter(), batches.seconds
        loss, norm = self.stepper.step(self.progress.step, batches)
        self.recorder.add(self.progress.step, loss, norm)
        self.progress.step += 1
        if len(self.recorder) >= self.recipe.log_steps:
            self._read_steps()
        self.progress.record.seconds += time.perf_counter() - started
        self.progress.record.seconds_waited += batches.seconds - waited
        self.stop.check()
        every = self.recipe.checkpoints.every_steps
        if every and self.progress.step % every == 0:
            self.checkpoint()

    def _bar(self, skip: int, count: int) -> EpochBar:
        size = self.recipe.batch_size
        return EpochBar(
            self.progress.epoch + 1,
            self.stepper.lengths.num_epochs,
            count * size,
            initial=skip * size,
            visible=self.accelerator.is_main_process,
        )

    def _state_of_things(self) -> dict[str, str]:
        record = self.progress.record
        shown = {"loss": f"{record.window[-1]:.4f}"} if record.window else {}
        return shown | {"data": f"{record.seconds_waited / max(record.seconds, 1e-9):.0%}"}

    def _read_steps(self) -> None:
        """Look at the losses of the last steps, and log them."""
        try:
            summary = self.recorder.flush()
        except NotFiniteError as error:
            raise FloatingPointError(self._explain(error)) from error
        if summary:
            self._log_steps(summary)

    def _log_steps(self, summary: StepSummary) -> None:
        lr = learning_rate(summary.step, self.recipe, self.stepper.lengths)
        line = {"step": summary.step + 1, "loss": summary.loss, "lr": lr, "grad_norm": summary.grad_norm}
        if self.accelerator.is_main_process:
            append_line(self.run.steps, line)
        self.accelerator.log(
            {f"train/{key}": value for key, value in line.items() if key != "step"}, step=summary.step + 1
        )

    def _explain(self, error: NotFiniteError) -> str:
        lengths, passes = self.stepper.lengths, self.recipe.gradient_accumulation_steps
        epoch, place = divmod(error.step, lengths.steps_per_epoch)
        checkpoints = self.saver.kept.steps()
        batch = self.data.describe(error.step * passes, passes)
        return (
            f"{error.what} at step {error.step + 1} (epoch {epoch + 1}, batch {place + 1} of "
            f"{lengths.steps_per_epoch}: {batch}). The last good checkpoint is "
            f"{checkpoints[-1] if checkpoints else 'none yet'}. A lower lr, a longer warm-up or clip_grad_norm may help"
        )

    def evaluate_epoch(self) -> dict[str, float] | None:
        """Return the scores on the validation set, if this epoch is one to evaluate after."""
        epoch = self.progress.epoch + 1
        if epoch % self.recipe.eval_epochs and epoch < self.stepper.lengths.num_epochs:
            return None
        self.saver.share_buffers()
        with self.saver.averaged():
            return self.task.metrics().compute(self.evaluate(self.val_set, self.stepper.model))

    def evaluate(self, dataset: Dataset[Batch] | SampleStream, model: nn.Module) -> dict[str, Tensor]:
        """Return what the metrics add up over a set with a model, always on the same random draws, if it has any."""
        seed_generators(
            derive_seed(self.recipe.seed, "evaluation", self.accelerator.process_index), self.accelerator.device
        )
        return evaluation_sums(
            self.task,
            model,
            dataset,
            self.accelerator,
            batch_size=self.recipe.eval_batch_size,
            num_workers=self.recipe.num_workers,
            before_batch=self.stop.check,
        )

    def finish_epoch(self, scores: dict[str, float] | None) -> None:
        """Record the epoch and write its checkpoints."""
        progress = self.progress
        progress.epoch += 1
        self._record(scores)
        progress.record = progress.record.next_epoch()
        self.recorder.epoch = progress.record
        # The best first: were it the other way round, a kill between the two would leave an older best for good.
        if scores:
            if progress.rank(scores[self.task.score], self.recipe.checkpoints.keep_best):
                self.saver.save_best(progress)
            patience = self.recipe.early_stop_epochs
            progress.has_stalled = patience is not None and progress.epoch - progress.last_rise >= patience
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write a checkpoint to go on from."""
        self._read_steps()
        now = time.perf_counter()
        self.progress.seconds += now - self._started
        self._started = now
        self.saver.save_step(self.progress)

    def _record(self, scores: dict[str, float] | None) -> None:
        progress, record = self.progress, self.progress.record
        lr = learning_rate(progress.step - 1, self.recipe, self.stepper.lengths)
        line: dict[str, Any] = {"epoch": progress.epoch, "step": progress.step, "lr": lr, **record.scores()}
        speed = self._speed()
        self.accelerator.log(
            {f"epoch/{key}": value for key, value in {**record.scores(), **speed}.items()}
            | {f"val/{name}": value for name, value in (scores or {}).items()},
            step=progress.step,
        )
        if self.accelerator.is_main_process:
            append_line(self.run.metrics, line | ({"val": scores} if scores else {}) | {"speed": speed})
            self._log_epoch(scores, speed)

    def _speed(self) -> dict[str, float]:
        record, memory = self.progress.record, peak_memory_bytes(self.accelerator.device)
        samples = record.losses * self.recipe.batch_size
        speed = {
            "seconds": record.seconds,
            "samples_per_second": samples / max(record.seconds, 1e-9),
            "data_wait": record.seconds_waited / max(record.seconds, 1e-9),
        }
        speed |= {} if memory is None else {"peak_memory_gb": memory / 1e9}
        return {key: round(value, 4) for key, value in speed.items()}

    def _log_epoch(self, scores: dict[str, float] | None, speed: dict[str, float]) -> None:
        progress, num_epochs = self.progress, self.stepper.lengths.num_epochs
        spent = progress.seconds + time.perf_counter() - self._started
        memory = f"{speed['peak_memory_gb']:.1f} GB  " if "peak_memory_gb" in speed else ""
        name = self.task.score
        score = f"validation {name} {score_text(name, scores[name])}  " if scores else ""
        left = spent / progress.epoch * (num_epochs - progress.epoch)
        log(
            f"epoch {progress.epoch:>3}/{num_epochs}  loss {progress.record.scores()['train_loss']:.4f}  {score}"
            f"{speed['samples_per_second']:.0f} samples/s  data {speed['data_wait']:.0%}  {memory}"
            + (f"{duration(left)} left" if left else f"{duration(spent)} in all")
        )

    def finish(self) -> dict[str, Any]:
        """Score the best model on the test split, draw the pictures, write the report and results.json."""
        best = self.saver.load_best()
        test_set = self.task.dataset("test")
        sums = {"val": self.evaluate(self.val_set, best), "test": self.evaluate(test_set, best) if test_set else None}
        scores = {split: found and self.task.metrics().compute(found) for split, found in sums.items()}
        results: dict[str, Any] = {
            "best_epoch": self.progress.best_epoch,
            **scores,
            "parameters": sum(parameter.numel() for parameter in best.parameters()),
            "training_seconds": round(self.progress.seconds, 1),
            "stability": self._stability(),
            "environment": describe_environment(self.accelerator),
        }
        split: Split = "test" if test_set else "val"
        if self.accelerator.is_main_process:
            shown = self.task.load(self.saver.kept.best) if self.saver.is_spread else best
            write_report(self.run, self.task, self.recipe, shown, results, sums[split] or {}, split)
            trained = Trained(self.task, self.recipe, shown, results, self.data.num_samples)
            self.saver.kept.add_to_best(CARD, card_text(trained))
            write_text(self.run.results, json.dumps(results, indent=2))
            score = score_text(self.task.score, results[split][self.task.score])
            how = f" by {self.task.protocol}" if self.task.protocol else ""
            log(
                f"best epoch {self.progress.best_epoch}: {split} {self.task.score} {score} on "
                f"{results[split]['count']:.0f} samples{how}; all of it is in {self.run.path}, report.html first"
            )
        self.accelerator.wait_for_everyone()
        return results

    def _stability(self) -> dict[str, float]:
        """Return what the record of gradient norms and losses says of the whole run."""
        lines = read_lines(self.run.metrics)
        return {
            "grad_norm_max": max((line["grad_norm_max"] for line in lines), default=0.0),
            "loss_spikes": sum(line["loss_spikes"] for line in lines),
            "steps": self.progress.step,
        }

    def _log(self, line: str) -> None:
        if self.accelerator.is_main_process:
            log(line)
