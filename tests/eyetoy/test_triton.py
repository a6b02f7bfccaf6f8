"""The Triton backend without a GPU: interpreted in a process of its own, compiled ahead of time, chosen, refused."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from eyetoy import available_backends, neighborhood_attention
from eyetoy.neighborhood.backends import registry
from eyetoy.neighborhood.backends.registry import choose_backend
from eyetoy.neighborhood.problem import Call, check_problem
from helpers.paths import REPOSITORY

ON_CUDA = Call(device="cuda", dtype=torch.bfloat16, head_dim=8, value_dim=8, requires_grad=True, has_key_mask=False)
NUM_PROBLEMS = 2


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """benchmarks/kernels.py, which compiles for GPUs that are not there."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "benchmarks")
        # Compile anew, and leave the home alone.
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield importlib.import_module("kernels")


def test_the_interpreter_agrees_with_the_reference() -> None:
    """`nox -s interpreter` runs the same with 500 problems per dimension.

    In a process of its own: Triton asks for the variable as it is imported, and PyTorch's compiler imports it too.
    """
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "EYETOY_NUM_PROBLEMS": str(NUM_PROBLEMS)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/eyetoy/interpreted_triton.py"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout
    assert "TRITON_INTERPRET" not in os.environ


@pytest.mark.parametrize(
    ("target", "first"), [("sm_80", 2), ("sm_90", 0), ("sm_100", 2), ("gfx942", 2)], ids=lambda value: str(value)
)
def test_kernels_compile_without_a_gpu(target: str, first: int, kernels: ModuleType) -> None:
    """For the first shape of tiny, all kernels or the last one; `nox -s kernels` has all shapes of all models."""
    if reason := kernels.why_not(target):
        pytest.skip(reason)
    for started in kernels.launches(kernels.shapes_of("eyetoy2d_tiny")[0])[first:]:
        taken = kernels.resources(kernels.compiled(kernels.source_of(started), target), target)
        assert taken["spilled"] == 0, (started.kernel, taken)
        assert 0 < taken["shared"] <= kernels.SHARED_BYTES[target]


def test_every_option_at_once_compiles(kernels: ModuleType) -> None:
    if reason := kernels.why_not("sm_90"):
        pytest.skip(reason)
    x = torch.empty(2, 40, 1, 128, device="meta", dtype=torch.float16)
    mask, lengths = (
        torch.empty(size, dtype=dtype, device="meta") for size, dtype in (((2, 40), torch.bool), (2, torch.int64))
    )
    problem = check_problem(x, x, x, kernel_size=5, dilation=2, stride=3, is_causal=True, key_mask=mask, scale=None)
    *_, last = kernels.launches(kernels.Shape(1, 128, replace(problem, lengths=lengths)), x.dtype, batch=2)
    assert kernels.resources(kernels.compiled(kernels.source_of(last), "sm_90"), "sm_90")["registers"]


def test_reasons_are_given() -> None:
    assert "TRITON_INTERPRET=1" in str(available_backends("cpu")["triton"])
    assert "does not run on mps" in str(available_backends("mps")["triton"])
    assert "got float64" in str(available_backends("cuda", torch.float64)["triton"])
    assert "at most 128; got 136 and 136" in str(available_backends("cuda", head_dim=136)["triton"])
    x = torch.randn(1, 9, 2, 8)
    with pytest.raises(ValueError, match="backend 'triton' cannot do this call: Triton runs on CUDA and ROCm"):
        neighborhood_attention(x, x, x, 3, backend="triton")
    with pytest.raises(ValueError, match=r"torch\.func cannot transform Triton's kernels"):
        torch.func.vmap(lambda y: neighborhood_attention(y, y, y, 3, backend="triton"))(x[None].to("meta"))


def test_the_variable_must_be_set_before_triton_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton.language")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert available_backends("cpu")["triton"] == (
        "TRITON_INTERPRET=1 was set after Triton was imported; set it before Python starts"
    )


def test_old_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert available_backends("cuda")["triton"] == "Triton needs compute capability 8.0; this GPU has 7.5"


def test_what_other_backends_cannot_do_on_cuda_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(registry.natten, "is_installed", lambda: False)
    assert choose_backend("auto", ON_CUDA) == "triton"
    assert choose_backend("auto", replace(ON_CUDA, head_dim=32, value_dim=32)) == "flex"
    assert choose_backend("auto", replace(ON_CUDA, dtype=torch.float64)) == "tiled"
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert choose_backend("auto", ON_CUDA) == "tiled"  # an exported program would need this package


def test_compiled_programs_know_shapes_without_a_gpu() -> None:
    packed = torch.empty(2, 9, 7, 3, 2, 8, device="meta", requires_grad=True)

    def attend(packed: torch.Tensor) -> torch.Tensor:
        return neighborhood_attention(*packed.unbind(-3), 3, is_causal=True, backend="triton")

    for program in (attend, torch.compile(attend, fullgraph=True, backend="aot_eager")):
        out = program(packed)
        assert out.shape == (2, 9, 7, 2, 8)
        assert torch.autograd.grad(out.sum(), packed)[0].shape == packed.shape
