"""Seeds for everything random, derived from the one in the recipe.

A random number in a run depends on the recipe's seed and on its place (epoch, sample, micro batch, process), never on
what was drawn before it. This is what makes a resumed run equal to an uninterrupted one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Of splitmix64 (Steele, Lea and Flood, 2014), as signed integers.
_STEP, _MIX_1, _MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def derive_seed(*parts: int | str) -> int:
    """Return a seed that depends on every part; parts that differ by little give unrelated seeds.

    For example, `derive_seed(0, "sample", 3, 17)` for sample 17 in epoch 3. A hash instead of arithmetic, because
    `seed + epoch` would give epoch 1 of seed 0 and epoch 0 of seed 1 the same numbers.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def digest_of(lines: Iterable[str]) -> str:
    """Return a hash of lines of text, in their order; equal lines have equal ones."""
    found = hashlib.blake2b(digest_size=8)
    for line in lines:
        found.update(f"{line}\n".encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of one device.

    `torch.manual_seed` seeds every kind of device that PyTorch was built for, which takes a millisecond.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextmanager
def kept_generator() -> Iterator[None]:
    """Restore the CPU's global generator at the end of a `with` block."""
    import torch

    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


def uniforms(seeds: Tensor, count: int) -> Tensor:
    """Return `count` numbers of [0, 1) for each seed, `[batch, count]`, drawn on the device of the seeds.

    A row depends on its seed alone, so numbers drawn for a whole batch at once are the same for a sample whatever else
    is in the batch. By splitmix64 (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014).

    Args:
        seeds: int64 `[batch]`, unrelated to each other, such as `derive_seed` gives.
        count: how many numbers.
    """
    import torch

    bits = seeds[:, None] + _STEP * torch.arange(1, count + 1, device=seeds.device)
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    # The upper 24 bits, as many as float32 tells apart. Splitmix64's last shift changes none of them.
    return _shifted(bits, 64 - 24).float() * 2**-24


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """Shift right, filling with zeros, as for an unsigned integer."""
    shifted: Tensor = (bits >> shift) & (2 ** (64 - shift) - 1)
    return shifted
