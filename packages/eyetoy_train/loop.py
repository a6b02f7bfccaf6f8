"""The training loop, top to bottom."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import ProjectConfiguration, broadcast_object_list, parse_flag_from_env, send_to_device, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from eyetoy_train.checkpoint import Progress, load_training_state, replace_folder, save_training_state
from eyetoy_train.data import ShuffledSampler, derive_seed, size_of, training_loader
from eyetoy_train.environment import describe_environment
from eyetoy_train.evaluate import evaluate
from eyetoy_train.monitor import EpochBar, say
from eyetoy_train.optim import build_optimizer, learning_rate, set_learning_rate
from eyetoy_train.pictures import draw_curves
from eyetoy_train.recipe import Recipe
from eyetoy_train.run_folder import RunFolder, choose_run_folder
from eyetoy_train.task import Batch, Split, Task


def train(task: Task, recipe: Recipe) -> dict[str, Any]:
    """Train `task` by `recipe` and return what results.json holds: the scores of its best epoch, and where it ran.

    Run it under `accelerate launch` to use several devices. The run's folder ends with recipe.yaml, metrics.jsonl,
    the best and the last checkpoint, TensorBoard events, pictures, and results.json. A run that was interrupted goes
    on after its last complete epoch.

    Raises:
        ValueError: the recipe does not fit the data or the number of processes.
        FileExistsError: the recipe's `output_dir` is taken.
        FloatingPointError: the loss is not finite.
    """
    run = _open_run(recipe)
    accelerator = Accelerator(
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        log_with="tensorboard",
        project_config=ProjectConfiguration(project_dir=str(run.path), logging_dir=str(run.path)),
    )
    with accelerator.local_main_process_first():
        task.prepare()
    set_seed(recipe.seed)  # after what may have drawn random numbers in the first run only
    trainer = Trainer.start(task, recipe, run, accelerator)
    accelerator.init_trackers("tensorboard")  # after what may refuse the recipe: a run that cannot start leaves nothing
    for epoch in range(trainer.progress.epoch, trainer.num_epochs):
        started = time.perf_counter()
        train_loss = trainer.train_one_epoch(epoch)
        scores = trainer.evaluate(trainer.val_set)
        trainer.finish_epoch(train_loss, scores, seconds=time.perf_counter() - started)
    results = trainer.finish()
    accelerator.end_training()
    return results


def _open_run(recipe: Recipe) -> RunFolder:
    """Let the main process choose the folder, so that all agree on it."""
    chosen: list[RunFolder | OSError] = [RunFolder(Path())]
    # Accelerator honours this flag of `accelerate launch`; a bare PartialState would not, and would see one process.
    if PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).is_main_process:
        try:
            chosen = [choose_run_folder(recipe)]
        except OSError as error:
            chosen = [error]
    broadcast_object_list(chosen)
    if isinstance(chosen[0], OSError):
        raise chosen[0]
    return chosen[0]


def _begin(run: RunFolder, recipe: Recipe, accelerator: Accelerator) -> bool:
    """Let one process prepare the folder; return whether it holds a checkpoint to go on from."""
    if accelerator.is_main_process:
        run.start(recipe)
    accelerator.wait_for_everyone()
    return run.last.exists()


@dataclass(kw_only=True)
class Trainer:
    """One process's part in a run."""

    task: Task
    recipe: Recipe
    run: RunFolder
    accelerator: Accelerator
    loader: DataLoader[Batch]
    sampler: ShuffledSampler
    val_set: Dataset[Batch]
    model: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress

    @classmethod
    def start(cls, task: Task, recipe: Recipe, run: RunFolder, accelerator: Accelerator) -> Trainer:
        """Build model, data and optimizer, and go on from the last checkpoint if there is one."""
        train_set, val_set = task.dataset("train"), task.dataset("val")
        if train_set is None or val_set is None:
            raise ValueError("the data need a training and a validation split")
        loader, sampler = training_loader(
            train_set,
            batch_size=recipe.samples_per_pass(accelerator.num_processes) * accelerator.num_processes,
            seed=recipe.seed,
            num_workers=recipe.num_workers,
            process=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        resumed = _begin(run, recipe, accelerator)
        model = task.load(run.last) if resumed else task.build_model()
        model, optimizer = accelerator.prepare(model, build_optimizer(model, recipe))
        progress = load_training_state(run.last, optimizer, accelerator) if resumed else Progress()
        trainer = cls(
            task=task,
            recipe=recipe,
            run=run,
            accelerator=accelerator,
            loader=loader,
            sampler=sampler,
            val_set=val_set,
            model=model,
            optimizer=optimizer,
            progress=progress,
        )
        trainer._introduce(size_of(train_set), resumed=resumed)
        return trainer

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return max(self.sampler.num_batches // self.recipe.gradient_accumulation_steps, 1)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        steps = self.recipe.epochs * self.steps_per_epoch
        return steps if self.recipe.max_steps is None else min(steps, self.recipe.max_steps)

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run; the last may be cut short by `max_steps`."""
        return math.ceil(self.num_steps / self.steps_per_epoch)

    def _introduce(self, num_samples: int, *, resumed: bool) -> None:
        if not self.accelerator.is_main_process:
            return
        if resumed:
            self.run.forget_metrics_after(self.progress.epoch)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        say(
            f"{self.recipe.model.name}, {parameters / 1e6:.2f} M parameters, {num_samples} training samples, "
            f"{self.accelerator.num_processes} process(es) on {self.accelerator.device}, run folder {self.run.path}"
            + (f"; going on after epoch {self.progress.epoch}" if resumed else "")
        )

    def train_one_epoch(self, epoch: int) -> float:
        """Train on every sample once and return the mean loss over all processes."""
        torch.manual_seed(derive_seed(self.recipe.seed, "epoch", epoch, self.accelerator.process_index))
        self.sampler.epoch = epoch
        self.model.train()
        passes = min(self.steps_per_epoch, self.num_steps - self.progress.step)
        passes *= self.recipe.gradient_accumulation_steps
        total = torch.zeros((), device=self.accelerator.device)
        samples = passes * self.recipe.batch_size // self.recipe.gradient_accumulation_steps
        with EpochBar(epoch + 1, self.num_epochs, samples, visible=self.accelerator.is_main_process) as bar:
            for _, batch in zip(range(passes), self.loader, strict=False):
                loss = self._train_on(send_to_device(batch, self.accelerator.device))
                total += loss
                bar.update(samples // passes, loss.item)
        mean = float(self.accelerator.reduce(total / passes, reduction="mean"))
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {epoch + 1}; the last good checkpoint is {self.run.last}. "
                "A lower lr, a longer warm-up or clip_grad_norm may help"
            )
        return mean

    def _train_on(self, batch: Batch) -> Tensor:
        with self.accelerator.accumulate(self.model):
            with self.accelerator.autocast():
                loss = self.task.loss(self.model, batch)
            self.accelerator.backward(loss)
            if self.accelerator.sync_gradients:
                self._set_learning_rate()
                if self.recipe.clip_grad_norm is not None:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad_norm)
                self.progress.step += 1
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss.detach()

    def _set_learning_rate(self) -> None:
        lr = learning_rate(
            self.progress.step, self.recipe, steps_per_epoch=self.steps_per_epoch, num_steps=self.num_steps
        )
        set_learning_rate(self.optimizer.param_groups, lr)

    def finish_epoch(self, train_loss: float, scores: dict[str, float], *, seconds: float) -> None:
        """Record the epoch and write its checkpoints."""
        progress, score = self.progress, scores[self.task.score]
        progress.epoch += 1
        progress.seconds += seconds
        is_best = score >= progress.best_score  # of equals the later one, which has seen more
        if is_best:
            progress.best_score, progress.best_epoch = score, progress.epoch
        self.accelerator.log(
            {"train/loss": train_loss, "train/lr": self.optimizer.param_groups[0]["lr"]}
            | {f"val/{name}": value for name, value in scores.items()},
            step=progress.step,
        )
        if self.accelerator.is_main_process:
            self._record(train_loss, scores, seconds)
            self._checkpoint(is_best=is_best)
        self.accelerator.wait_for_everyone()

    def _record(self, train_loss: float, scores: dict[str, float], seconds: float) -> None:
        progress = self.progress
        lr = self.optimizer.param_groups[0]["lr"]
        line = {"epoch": progress.epoch, "step": progress.step, "lr": lr, "train_loss": train_loss}
        self.run.append_metrics({**line, "val": scores, "seconds": round(seconds, 3)})
        say(
            f"epoch {progress.epoch:>3}/{self.num_epochs}  loss {train_loss:.4f}  "
            f"validation {self.task.score} {scores[self.task.score]:.2%}  {seconds:.1f} s"
        )

    def _checkpoint(self, *, is_best: bool) -> None:
        model = self.accelerator.unwrap_model(self.model)
        replace_folder(self.run.last, lambda folder: self._write_checkpoint(model, folder))
        if is_best:
            replace_folder(self.run.best, lambda folder: self.task.save(model, folder))

    def _write_checkpoint(self, model: nn.Module, folder: Path) -> None:
        self.task.save(model, folder)
        save_training_state(folder, self.optimizer, self.accelerator, self.progress)

    def evaluate(self, dataset: Dataset[Batch], model: nn.Module | None = None) -> dict[str, float]:
        """Return the scores on a set, of the model in training if no other is given."""
        return evaluate(
            self.task,
            model or self.model,
            dataset,
            self.accelerator,
            batch_size=self.recipe.eval_batch_size,
            num_workers=self.recipe.num_workers,
        )

    def finish(self) -> dict[str, Any]:
        """Score the best checkpoint on the test split, draw the pictures, and write results.json."""
        best = self.task.load(self.run.best).to(self.accelerator.device)
        test_set = self.task.dataset("test")
        results: dict[str, Any] = {
            "best_epoch": self.progress.best_epoch,
            "val": self.evaluate(self.val_set, best),
            "test": self.evaluate(test_set, best) if test_set else None,
            "training_seconds": round(self.progress.seconds, 1),
            "environment": describe_environment(self.accelerator),
        }
        if self.accelerator.is_main_process:
            draw_curves(self.run.read_metrics(), self.task.score, self.run.path / "curves.png")
            split: Split = "test" if results["test"] else "val"
            self.task.write_samples(best, split, self.run.path / "samples.png")
            self.run.results.write_text(json.dumps(results, indent=2), encoding="utf-8")
            held_out = results[split]
            say(
                f"best epoch {self.progress.best_epoch}: {split} {self.task.score} {held_out[self.task.score]:.2%} on "
                f"{held_out['count']:.0f} samples; all of it is in {self.run.path}"
            )
        self.accelerator.wait_for_everyone()
        return results
