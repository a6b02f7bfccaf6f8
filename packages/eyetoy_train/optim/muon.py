"""Muon for matrices and AdamW for everything else, as one optimizer.

Ours instead of `torch.optim.Muon`, which takes two-dimensional parameters only, and steps through them one by one: this
one takes kernels, steps through matrices of a shape together, and saves one state for both kinds of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Steps of equal size in all directions for matrices and kernels (Jordan et al., Muon, 2024), AdamW for others.

    The update of a matrix is its gradient's momentum, made orthogonal, at the size that AdamW's would have (Liu et al.,
    Muon is Scalable for LLM Training, 2025), so that learning rate and weight decay of AdamW fit. A kernel
    `[out, ...]` counts as a matrix `[out, everything else]`.

    Args:
        groups: parameter groups; those whose `is_matrix` is true take Muon's steps.
        lr: learning rate of groups that have none.
        momentum: decay rate of the matrices' momentum.
        betas: AdamW's decay rates.
        eps: AdamW's.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": 0.0, "is_matrix": False}
        # `fused` tells PyTorch's `load_state_dict` to put the number of steps on the parameter's device.
        super().__init__(groups, defaults | {"fused": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moved, updates, sizes = list[Tensor](), list[Tensor](), list[float]()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if not group["is_matrix"]:
                self._step_others(group, parameters)
                continue
            moved += parameters
            updates += self._decay_and_update(group, parameters)
            # An orthogonal matrix [m, n] has a root mean square of 1 / sqrt(max(m, n)); AdamW's updates have about 0.2.
            sizes += [-0.2 * group["lr"] * max(parameter.flatten(1).shape) ** 0.5 for parameter in parameters]
        # Stack by stack, so that the steps of one are added while they are in the caches.
        for members, steps in orthogonalize_all([update.flatten(1) for update in updates]):
            for size in dict.fromkeys(sizes[i] for i in members):
                pairs = [(moved[i], step) for i, step in zip(members, steps, strict=True) if sizes[i] == size]
                torch._foreach_add_([p for p, _ in pairs], [step.reshape(p.shape) for p, step in pairs], alpha=size)
        return loss

    def _decay_and_update(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        """Decay the weights and the momentum of a group, and return what is to be made orthogonal."""
        gradients = _gradients(parameters)
        momenta = self._states(parameters, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        return list(torch._foreach_lerp(gradients, momenta, group["momentum"]))  # Nesterov's

    def _step_others(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        for parameter in parameters:
            if "step" not in self.state[parameter]:
                self.state[parameter]["step"] = torch.zeros((), device=parameter.device)
        adamw(
            parameters,
            _gradients(parameters),
            self._states(parameters, "exp_avg"),
            self._states(parameters, "exp_avg_sq"),
            [],
            [self.state[parameter]["step"] for parameter in parameters],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _states(self, parameters: Sequence[Tensor], name: str) -> list[Tensor]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def orthogonalize_all(matrices: Sequence[Tensor]) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield `orthogonalize` of matrices `[rows, columns]` of any shapes, with their places in the sequence.

    Those of a shape take each step together. On accelerators a tall matrix goes with the wide ones of its transposed
    shape, as the two layers of a feed-forward network: they wait for launches, and not for the copy that this takes.
    """
    stacks: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    for i, matrix in enumerate(matrices):
        is_turned = matrix.shape[0] > matrix.shape[1] and matrix.device.type != "cpu"
        shape = matrix.mT.shape if is_turned else matrix.shape
        stacks.setdefault(tuple(shape), ([], []))[is_turned].append(i)
    for plain, turned in stacks.values():
        found = orthogonalize(torch.stack([*(matrices[i] for i in plain), *(matrices[i].mT for i in turned)]))
        steps = [*found[: len(plain)]]
        if turned:
            steps += found[len(plain) :].mT.contiguous()
        yield plain + turned, steps


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices `[number, rows, columns]` with all singular values near 1, by Newton and Schulz's iteration.

    Computed in bfloat16 on accelerators, as by its authors; in the matrices' own precision on a CPU.
    """
    # The iteration multiplies x by its transpose; the shorter side first makes that product the smaller one.
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = wide if wide.device.type == "cpu" else wide.bfloat16()
    # It converges for singular values up to 1, and the Frobenius norm is at least the largest of them.
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x if wide is matrices else x.mT
