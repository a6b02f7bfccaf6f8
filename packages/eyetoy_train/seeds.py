"""Seeds for everything random, derived from the one in the recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*parts: int | str) -> int:
    """Return a seed that depends on every part, and that is unrelated for parts that differ by little."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators that a pass draws from: the CPU's, and the device's.

    `torch.manual_seed` seeds those of every kind of device that PyTorch was built for, which takes a millisecond.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator for a while, and leave it as it was."""
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)
