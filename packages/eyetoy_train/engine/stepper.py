"""One optimizer step: forward and backward passes, then the update of the weights and of their average."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from eyetoy_train.optim.ema import Ema
from eyetoy_train.optim.schedule import DropPathWarmup, Lengths, learning_rate, set_learning_rate
from eyetoy_train.recipe import Recipe
from eyetoy_train.task import Task
from eyetoy_train.types import Batch
from eyetoy_train.utils.seeds import derive_seed, seed_generators


@dataclass(kw_only=True)
class Stepper:
    """What changes the weights. A step depends on its number, its batches and the state before it, on nothing else."""

    task: Task
    recipe: Recipe
    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    drop_path: DropPathWarmup
    lengths: Lengths

    def __post_init__(self) -> None:
        """List the parameters once: to walk through a model takes longer than to take the norm of its gradients."""
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def step(self, number: int, batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        """Take optimizer step `number`, counted from 0, on the next batches; return their mean loss and the norm."""
        passes = self.recipe.gradient_accumulation_steps
        set_learning_rate(self.optimizer.param_groups, learning_rate(number, self.recipe, self.lengths))
        self.drop_path.set(number)
        losses = [self._pass(number * passes + index, next(batches)) for index in range(passes)]
        norm = self._gradient_norm()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(number)
        return losses[0] if passes == 1 else torch.stack(losses).mean(), norm

    def _pass(self, number: int, batch: Batch) -> Tensor:
        """Go forward and backward with one batch; return its loss."""
        batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
        seed = derive_seed(self.recipe.seed, "pass", number, self.accelerator.process_index)
        seed_generators(seed, self.accelerator.device)
        with self.accelerator.accumulate(self.model):
            with self.accelerator.autocast():
                loss = self.task.loss(self.model, batch)
            self.accelerator.backward(loss)
        return loss.detach()

    def _gradient_norm(self) -> Tensor:
        """Return the norm over all parameters, before clipping if the recipe asks for that."""
        norm: Tensor
        if self.recipe.clip_grad_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.parameters, self.recipe.clip_grad_norm)
        else:
            self.accelerator.unscale_gradients()
            norm = total_norm([gradient for parameter in self.parameters if (gradient := parameter.grad) is not None])
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def total_norm(gradients: list[Tensor]) -> Tensor:
    """Return the norm of all gradients together.

    Most parameters of a model are short vectors, whose norms one by one take longer than to put them into one: with
    that it takes half the time of `torch.nn.utils.get_total_norm`, and is still most of what the engine does in a step.
    """
    vectors = [gradient for gradient in gradients if gradient.ndim == 1]
    others = [gradient for gradient in gradients if gradient.ndim != 1]
    if len(vectors) > 1 and not isinstance(vectors[0], DTensor):
        vectors = [torch.cat(vectors)]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(vectors + others)))
    return norm
