"""Fixtures of the core's tests: the oracle, random problems, small encoders, precision."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


def _load(name: str) -> ModuleType:
    """Import a module that lies beside this file; importlib mode puts no folder on the path."""
    spec = importlib.util.spec_from_file_location(f"eyetoy_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """Plain formulas of what the package computes, written from its documents."""
    return _load("oracle")


@pytest.fixture(scope="session")
def problems() -> ModuleType:
    """Hypothesis strategies for neighborhood attention calls."""
    return _load("problems")


@pytest.fixture(scope="session")
def encoders() -> ModuleType:
    """Encoders small enough to run in milliseconds."""
    return _load("encoders")


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
