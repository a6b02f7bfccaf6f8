"""Fixtures of the core's tests: the oracle, random problems, small encoders, precision."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

import helpers.encoders
import helpers.oracle
import helpers.problems


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """Plain formulas of what the package computes, written from its documents."""
    return helpers.oracle


@pytest.fixture(scope="session")
def problems() -> ModuleType:
    """Hypothesis strategies for neighborhood attention calls."""
    return helpers.problems


@pytest.fixture(scope="session")
def encoders() -> ModuleType:
    """Encoders small enough to run in milliseconds."""
    return helpers.encoders


@pytest.fixture(scope="session", params=["reference", "tiled"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def double(device: str) -> torch.dtype:
    """float64, for comparisons that leave no room for rounding."""
    if device == "mps":
        pytest.skip("mps has no float64")
    return torch.float64


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Small problems run faster without a thread pool."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
