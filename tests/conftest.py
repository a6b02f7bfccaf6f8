"""Options that restrict a run to one dimension or one device, the hypothesis profiles, and random numbers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, register_random, settings

from helpers.commands import checkpoints, refused, repository, run_command

__all__ = ["checkpoints", "refused", "repository", "run_command"]  # fixtures of all folders

DIMENSIONS = (1, 2, 3)
DEVICES = ("cpu", "cuda", "mps")

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


class _TorchRandom:
    """PyTorch's generator, for hypothesis to seed before every example."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


_TORCH_RANDOM = _TorchRandom()  # hypothesis keeps a weak reference only
register_random(_TORCH_RANDOM)


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    """Seed PyTorch before every test, so that a failure can be repeated, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _fresh_accelerate_state() -> Iterator[None]:
    """Let the next test choose its own precision and processes: Accelerate keeps those of the first."""
    yield
    if state := sys.modules.get("accelerate.state"):  # most tests of the encoders never import it
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("eyetoy")
    group.addoption("--dimension", type=int, choices=DIMENSIONS, help="run the tests of this dimension only")
    group.addoption("--device", choices=DEVICES, help="run on this device only; skips if it is absent")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: a process that took one as its last would keep the others waiting."""
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test that asks for `dimension` or `device` each of those that the options leave."""
    if "dimension" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--dimension")
        dimensions = DIMENSIONS if chosen is None else (chosen,)
        metafunc.parametrize("dimension", dimensions, ids=lambda dimension: f"{dimension}d", scope="session")
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", _devices(metafunc.config.getoption("--device")), scope="session")


def _devices(chosen: str | None) -> list[object]:
    if chosen is None:
        return [device for device in DEVICES if _is_present(device)]
    if _is_present(chosen):
        return [chosen]
    return [pytest.param(chosen, marks=pytest.mark.skip(reason=f"this machine has no {chosen} device"))]


def _is_present(device: str) -> bool:
    return {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[device]
