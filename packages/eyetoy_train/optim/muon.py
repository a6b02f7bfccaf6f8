"""Muon for matrices and AdamW for everything else, as one optimizer.

Ours instead of `torch.optim.Muon`, which takes two-dimensional parameters only, and steps through them one by one: this
one takes kernels, steps through matrices of a shape together, and saves one state for both kinds of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                (self._step_matrices if group["is_matrix"] else self._step_others)(group, parameters)
        return loss

    def _step_matrices(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = _gradients(parameters)
        momenta = self._states(parameters, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for members in _same_shapes(parameters).values():
            orthogonal = orthogonalize(torch.stack([updates[i].flatten(1) for i in members]))  # [number, rows, columns]
            # An orthogonal matrix [m, n] has a root mean square of 1 / sqrt(max(m, n)); AdamW's updates have about 0.2.
            size = -0.2 * group["lr"] * max(orthogonal.shape[1:]) ** 0.5
            changed = [parameters[i] for i in members]
            steps = [step.view_as(parameter) for step, parameter in zip(orthogonal, changed, strict=True)]
            torch._foreach_add_(changed, steps, alpha=size)

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


def _same_shapes(parameters: Sequence[Tensor]) -> dict[tuple[int, ...], list[int]]:
    """Return the indices of the parameters of each shape: their updates are computed together."""
    members: dict[tuple[int, ...], list[int]] = {}
    for i, parameter in enumerate(parameters):
        members.setdefault(tuple(parameter.flatten(1).shape), []).append(i)
    return members


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
