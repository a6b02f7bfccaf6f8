"""Options that restrict a run to one dimension or one device, and the hypothesis profiles."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

DIMENSIONS = (1, 2, 3)
DEVICES = ("cpu", "cuda", "mps")

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("eyetoy")
    group.addoption("--dimension", type=int, choices=DIMENSIONS, help="run the tests of this dimension only")
    group.addoption("--device", choices=DEVICES, help="run on this device only; skips if it is absent")


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
