"""What docs/works_with.md promises and no other file holds: every kind of model under the tools of PyTorch and timm."""

from __future__ import annotations

import copy
import io
import pickle  # noqa: TID251
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.utils import parametrizations, prune
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from eyetoy import (
    Classifier,
    Encoder,
    FeaturePyramid,
    count_flops,
    create_pyramid,
    neighborhood_attention,
    register_timm_models,
)
from eyetoy.inspect import context_maps, find_encoder
from eyetoy.neighborhood.backends.registry import choose_backend
from eyetoy.neighborhood.problem import Call
from eyetoy.second_order import plain_attention

GRIDS = {1: (20,), 2: (9, 7), 3: (3, 6, 5)}
KINDS: dict[str, Callable[[Any], nn.Module]] = {
    "encoder": Encoder,
    "classifier": lambda params: Classifier(params, num_classes=3),
    "pyramid": FeaturePyramid,
}
CLOSE: dict[str, float] = {"rtol": 1e-4, "atol": 1e-5}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def build(encoders: Any) -> Callable[[str, int], nn.Module]:
    return lambda kind, dimension: KINDS[kind](encoders.encoder_params(dimension)).eval()


def inputs(dimension: int, *, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *GRIDS[dimension])


def outputs(out: Any) -> tuple[Tensor, ...]:
    return (out,) if isinstance(out, Tensor) else tuple(out)


def total(out: Any) -> Tensor:
    return torch.stack([x.float().square().mean() for x in outputs(out)]).sum()


def same(actual: Any, expected: Any, *, exactly: bool = False) -> None:
    tolerance = {"rtol": 0.0, "atol": 0.0} if exactly else CLOSE
    for ours, theirs in zip(outputs(actual), outputs(expected), strict=True):
        torch.testing.assert_close(ours, theirs, **tolerance)


@each_kind
@pytest.mark.parametrize("frozen", [False, True])
def test_forward_mode(dimension: int, kind: str, frozen: bool, build: Any) -> None:
    model, x = build(kind, dimension).requires_grad_(not frozen), inputs(dimension)
    tangent = torch.randn_like(x)
    _, expected = torch.autograd.functional.jvp(lambda t: outputs(model(t)), x, tangent)
    _, ours = torch.func.jvp(lambda t: outputs(model(t)), (x,), (tangent,))
    same(ours, expected)
    for grad in (torch.enable_grad, torch.no_grad):
        with forward_ad.dual_level(), grad():
            dual = outputs(model(forward_ad.make_dual(x, tangent)))
            same([forward_ad.unpack_dual(out).tangent for out in dual], expected)


@pytest.mark.parametrize("window", [2, 99])
def test_forward_mode_over_a_gradient(dimension: int, window: int) -> None:
    x = torch.randn(1, *GRIDS[dimension], 1, 2, dtype=torch.float64)

    def loss(t: Tensor) -> Tensor:
        return neighborhood_attention(t, 2 * t, t, window=window).square().sum()

    _, product = torch.func.jvp(torch.func.grad(loss), (x,), (x,))
    torch.testing.assert_close(product, torch.autograd.functional.hvp(loss, x, x)[1])


@each_kind
def test_gradients_of_each_sample(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    weights = dict(model.named_parameters())

    def loss(weights: dict[str, Tensor], sample: Tensor) -> Tensor:
        return total(torch.func.functional_call(model, weights, (sample[None],)))

    together = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    for row, sample in enumerate(x):
        alone = torch.autograd.grad(loss(weights, sample), list(weights.values()))
        same([together[name][row] for name in weights], alone)


@each_kind
def test_jacobians_and_hessians(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension, batch=1)

    def scaled(factors: Tensor) -> Tensor:
        return outputs(model(x * factors[0] + factors[1]))[-1].flatten()

    at = torch.tensor([1.0, 0.5])
    expected = torch.autograd.functional.jacobian(scaled, at)
    same([torch.func.jacrev(scaled)(at), torch.func.jacfwd(scaled)(at)], [expected, expected])

    def loss(factors: Tensor) -> Tensor:
        return scaled(factors).square().sum()

    hessian = torch.autograd.functional.hessian(loss, at)
    torch.testing.assert_close(torch.func.hessian(loss)(at), hessian, rtol=1e-3, atol=1e-3)


@each_kind
def test_several_models_at_once(dimension: int, kind: str, build: Any) -> None:
    models, x = [build(kind, dimension) for _ in range(2)], inputs(dimension)
    weights, buffers = torch.func.stack_module_state(models)

    def run(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return outputs(torch.func.functional_call(models[0], (weights, buffers), (x,)))

    together = torch.func.vmap(run)(weights, buffers)
    same(together, [torch.stack(pair) for pair in zip(*(outputs(model(x)) for model in models), strict=True)])


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_a_transform_keeps_nothing_for_the_next(backend: str) -> None:
    """Masks that are made inside of a transform are wrapped for it: kept for later calls, they gave wrong numbers."""
    x = torch.randn(1, 11, 1, 2, dtype=torch.float64)

    def loss(t: Tensor) -> Tensor:
        return neighborhood_attention(t, 2 * t, t, window=2, backend=backend).square().sum()

    _, product = torch.func.jvp(torch.func.grad(loss), (x,), (x,))
    again = torch.func.grad(lambda t: (torch.func.grad(loss)(t) * x).sum())(x)
    same([product, again], [torch.autograd.functional.hvp(loss, x, x)[1]] * 2)


def test_transforms_take_the_backend_that_they_can_follow() -> None:
    call = Call(
        device="cuda",
        dtype=torch.float32,
        head_dim=32,
        value_dim=32,
        requires_grad=True,
        has_key_mask=False,
        rules=None,
    )
    seen = [choose_backend("auto", call)]
    torch.func.vmap(lambda x: seen.append(choose_backend("auto", call)) or x)(torch.zeros(1))
    with forward_ad.dual_level():
        seen.append(choose_backend("auto", call))
    assert seen[0] != "tiled"
    assert seen[1:] == ["tiled", "tiled"]


@each_kind
def test_checkpoints_from_outside(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension).requires_grad_()
    expected = torch.autograd.grad(total(model(x)), x)
    same(torch.autograd.grad(total(checkpoint(model, x, use_reentrant=False)), x), expected)


@each_kind
def test_anomaly_mode(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly(check_nan=True):
        total(model(x)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("options", [{"window": 3}, {"window": 99}], ids=str)
def test_dynamic_sizes_compile_to_one_graph(options: dict[str, Any]) -> None:
    """On devices without the kernel the program has a plan for one grid, and is compiled again for the next."""

    def attend(x: Tensor) -> Tensor:
        return neighborhood_attention(x, 2 * x, x + 1, **options)

    torch._dynamo.reset()
    compiled = torch.compile(attend, dynamic=True, fullgraph=True, backend="eager")
    for length in (12, 15):
        x = torch.randn(2, length, 1, 4)
        torch.testing.assert_close(compiled(x), attend(x))
        assert compiled(x.to("meta")).shape == x.shape


@pytest.mark.parametrize(("axes", "dilation"), [(1, 1), (1, 2), (2, 1), (3, 1)])
@pytest.mark.parametrize("strict", [False, True])
def test_dynamic_grids_are_refused_by_every_export(axes: int, dilation: int, strict: bool) -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return neighborhood_attention(x, x, x, window=2, dilation=dilation)

    x = torch.randn(2, *GRIDS[axes], 1, 4)
    with pytest.raises((ValueError, RuntimeError), match=rf"cannot be dynamic; those of grid axes \[0\] of {axes}"):
        torch.export.export(Attention(), (x,), dynamic_shapes=({1: torch.export.Dim("n")},), strict=strict)


@pytest.mark.filterwarnings("ignore")  # of PyTorch: tracing is deprecated, and holds for one size
@each_kind
def test_jit_traces_are_saved(kind: str, build: Any) -> None:
    dimension, file = 1, io.BytesIO()
    model = build(kind, dimension)
    torch.jit.save(torch.jit.trace(model, (inputs(dimension),), check_trace=False, strict=False), file)
    file.seek(0)
    x = inputs(dimension, batch=3)
    same(torch.jit.load(file)(x), model(x))  # noqa: TID251


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:")
@each_kind
def test_jit_script_is_refused_by_name(dimension: int, kind: str, build: Any) -> None:
    model = build(kind, dimension)
    for module in (model, nn.Sequential(model, nn.Identity()), torch.fx.symbolic_trace(model)):
        with pytest.raises(NotImplementedError, match="^torch.jit.script cannot compile .*use torch.export"):
            torch.jit.script(module)


@each_kind
def test_fx_traces_of_every_kind(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    same(torch.fx.symbolic_trace(model)(x), model(x), exactly=True)


@pytest.mark.parametrize(("given", "levels"), [(1, (3,)), (3, (1, 2, 3)), ((-1, 0), (3, 0)), ([2], (2,))])
def test_out_indices_as_in_timm(dimension: int, given: Any, levels: tuple[int, ...]) -> None:
    pyramid = create_pyramid(f"eyetoy{dimension}d_nano", out_indices=given)
    assert pyramid.out_indices == pyramid.feature_info.out_indices == levels
    features = pytest.importorskip("timm.models._features")
    assert features.feature_take_indices(4, given)[0] == list(levels)


@pytest.mark.parametrize("given", [0, -1, 5])
def test_a_number_of_last_stages_that_are_not_there_is_refused(dimension: int, given: int) -> None:
    with pytest.raises(ValueError, match=rf"number of the last stages, from 1 to 4; got {given}. For one stage, give"):
        create_pyramid(f"eyetoy{dimension}d_nano", out_indices=given)


def test_timm_resets_the_classifier() -> None:
    timm = pytest.importorskip("timm")
    register_timm_models()
    model, x = timm.create_model("eyetoy_pico", num_classes=4).eval(), torch.randn(1, 3, 16, 16)
    assert model.head_hidden_size == model.num_features == model.get_classifier().in_features
    before = model.forward_head(model.forward_features(x), pre_logits=True)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), before)
    torch.testing.assert_close(model(x), model.forward_head(model.forward_features(x)))
    model.reset_classifier(6)
    assert model(x).shape == (1, 6)
    assert model.num_classes == 6


@pytest.mark.parametrize("option", ["output_stride", "feature_cls"])
def test_options_of_timm_without_a_meaning_here_are_refused(option: str) -> None:
    timm = pytest.importorskip("timm")
    register_timm_models()
    with pytest.raises(TypeError, match=f"eyetoy_pico takes no {option}"):
        timm.create_model("eyetoy_pico", features_only=True, **{option: 8})
    with pytest.raises(ValueError, match="global_pool must be 'token' or 'avg'; got ''"):
        timm.create_model("eyetoy_pico", global_pool="")


@each_kind
def test_inference_mode_leaves_nothing_behind(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), torch.randn(2, 3, *(n + 1 for n in GRIDS[dimension]))  # no plan of it is cached
    with torch.inference_mode():
        predicted = model(x)
    trained = model(x)
    total(trained).backward()
    same(trained, [out.clone() for out in outputs(predicted)])


@each_kind
def test_copies(dimension: int, kind: str, build: Any) -> None:
    model, x, file = build(kind, dimension), inputs(dimension), io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    expected = model(x)
    copies = [copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))]  # noqa: S301
    for other in [*copies, torch.load(file, weights_only=False)]:  # noqa: TID251
        same(other(x), expected, exactly=True)
        assert other._arguments() == model._arguments()


@each_kind
def test_data_parallel_and_shared_memory(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    expected = model(x)
    model.share_memory()
    assert all(parameter.is_shared() for parameter in model.parameters())
    same(nn.DataParallel(model)(x), expected, exactly=True)


@each_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes(dimension: int, kind: str, dtype: torch.dtype, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    expected = model(x)
    ours = model.to(dtype)(x.to(dtype))
    total(ours).backward()
    assert {out.dtype for out in outputs(ours)} == {dtype}
    for out, wide in zip(outputs(ours), outputs(expected), strict=True):
        assert (out - wide).norm() < (1e-5 if dtype == torch.float64 else 0.05) * wide.norm()


@each_kind
def test_memory_formats(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    expected = model(x)
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    views = [x.movedim(1, -1).contiguous().movedim(-1, 1), torch.cat([x, x], -1)[..., : x.shape[-1]]]
    if dimension in formats:
        model.to(memory_format=formats[dimension])
        views.append(x.to(memory_format=formats[dimension]))
    for view in views:
        same(model(view), expected)


@each_kind
def test_empty_batches(dimension: int, kind: str, build: Any) -> None:
    model = build(kind, dimension)
    out = outputs(model(inputs(dimension)[:0]))
    assert {len(x) for x in out} == {0}
    torch.stack([x.sum() for x in out]).sum().backward()


def weighted(model: nn.Module) -> list[nn.Module]:
    return [
        part for part in model.modules() if isinstance(getattr(part, "weight", None), Tensor) and part.weight.ndim > 1
    ]


@each_kind
def test_pruning(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    parts = weighted(model)
    for part in parts:
        prune.l1_unstructured(part, "weight", 0.5)
    pruned = model(x)
    total(pruned).backward()
    for part in parts:
        prune.remove(part, "weight")
        assert (part.weight == 0).sum() >= part.weight.numel() // 2
    same(model(x), pruned)


@each_kind
def test_weight_and_spectral_norm(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    expected = model(x)
    for part in weighted(model):
        parametrizations.weight_norm(part)
    torch.testing.assert_close(outputs(model(x)), outputs(expected), rtol=1e-3, atol=1e-4)
    model = build(kind, dimension)
    for part in weighted(model):
        parametrizations.spectral_norm(part, n_power_iterations=20)
    total(model.train()(x)).backward()
    model.eval()
    same(model(x), model(x), exactly=True)
    for part in weighted(model):
        assert torch.linalg.matrix_norm(part.weight.flatten(1), 2) < 1.2


@pytest.mark.filterwarnings("ignore")  # of PyTorch: it moves to torchao
@each_kind
def test_dynamic_quantization(dimension: int, kind: str, build: Any) -> None:
    model, x = build(kind, dimension), inputs(dimension)
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    assert not any(type(part) is nn.Linear for part in small.modules())
    with torch.no_grad():
        for ours, exact in zip(outputs(small(x)), outputs(model(x)), strict=True):
            assert 0 < (ours - exact).norm() < 0.1 * exact.norm()


@pytest.mark.filterwarnings("ignore:.*torch.func.functional_call:FutureWarning")
@each_kind
def test_stateless_calls(dimension: int, kind: str, build: Any) -> None:
    model, other, x = build(kind, dimension), build(kind, dimension), inputs(dimension)
    found = torch.nn.utils.stateless.functional_call(model, dict(other.named_parameters()), (x,))
    same(found, other(x), exactly=True)


def together(*jobs: Callable[[], Any]) -> list[Any]:
    """Run jobs at once, each several times, and return what each gave."""
    start = threading.Barrier(len(jobs))

    def repeated(job: Callable[[], Any]) -> list[Any]:
        start.wait()
        return [job() for _ in range(4)]

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(repeated, jobs))


@torch.no_grad()
def test_threads_predict_draw_and_count(dimension: int, build: Any) -> None:
    model, x = build("classifier", dimension), inputs(dimension)
    encoder = find_encoder(model)
    jobs = [
        lambda: model(x),
        lambda: count_flops(model, x.shape),
        lambda: context_maps(encoder, x),
        lambda: count_flops(encoder, (1, *x.shape[1:])),
    ]
    with torch.no_grad():
        alone = [job() for job in jobs]
    for found, expected in zip(together(*map(torch.no_grad(), jobs)), alone, strict=True):
        for one in found:
            torch.testing.assert_close(one, expected, rtol=0, atol=0)


def test_threads_with_second_derivatives_leave_the_settings_of_the_process_alone() -> None:
    seen = []

    class Settings(TorchDispatchMode):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(torch.backends.cuda.flash_sdp_enabled())
            return operator(*args, **(kwargs or {}))

    x = torch.randn(1, 1, 6, 4, requires_grad=True)
    with Settings():
        (first,) = torch.autograd.grad(plain_attention(x, 2 * x, x).square().sum(), x, create_graph=True)
        first.square().sum().backward()
    assert seen
    assert all(seen)


@pytest.mark.parametrize("indices", [None, 2, (0, -1)])
def test_timms_intermediates(dimension: int, indices: Any, encoders: Any) -> None:
    """Those of a pyramid before its norms, and with them the same result as without."""
    params = encoders.encoder_params(dimension)
    model, pyramid, x = Classifier(params, 3).eval(), FeaturePyramid(params, indices), inputs(dimension)
    final, found = model.forward_intermediates(x, indices)
    same(final, model.forward_features(x), exactly=True)
    same(found, model.forward_intermediates(x, indices, intermediates_only=True, stop_early=True), exactly=True)
    stages = model.encoder.forward_stages(x)
    same(found, [stages[i].movedim(-1, 1) for i in pyramid.out_indices], exactly=True)
    (normed,) = model.forward_intermediates(x, 1, norm=True, intermediates_only=True)
    same(normed, model.encoder.norm(stages[-1]).movedim(-1, 1), exactly=True)
    for options, message in (({"output_fmt": "NLC"}, "NCHW"), ({"stop_early": True}, "intermediates_only=True")):
        with pytest.raises(ValueError, match=message):
            model.forward_intermediates(x, indices, **options)
