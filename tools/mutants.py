"""Whether the tests notice what they should: one line broken at a time. `python tools/mutants.py`, or `nox -s mutants`.

Every mutant is tried on a copy of the tree, by the test files that are for its module, in a process of its own. A
mutant that no test fails for has survived. The exit code is 1 if more than a tenth of them do.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
COPIED = ("packages", "apps", "tests", "pyproject.toml", "constraints.txt", "noxfile.py", "README.md")
PRELOADED = (
    "torch",
    "torch._dynamo",
    "accelerate",
    "hypothesis",
    "matplotlib.figure",
    "jsonargparse",
    "huggingface_hub",
)
"""What takes long to import, and is none of the project: once for all forks."""
MOST_SECONDS = 300
CHEAP = "not (compile or export or million or flops or docstring or two_processes or gradients_are or named_classifier)"
"""Tests that take long are left out; a mutant that only they would kill counts as a survivor."""
NEEDED = 0.9


class Mutants(NamedTuple):
    """How to break a module: texts that it has once, with what takes their place; and the tests that should notice."""

    tests: list[str]
    changes: dict[str, str]


MODULES = {
    "eyetoy/neighborhood/window.py": Mutants(
        ["tests/eyetoy/test_window_rule.py"],
        {
            "self.window >= self.length and": "self.window > self.length and",
            "self.dilation == 1 and not self.is_causal": "self.dilation == 1",
            "query % self.dilation, query // self.dilation": "query // self.dilation, query % self.dilation",
            "(group < self.length % self.dilation)": "(group <= self.length % self.dilation)",
            "np.minimum(members, self.window)": "np.minimum(members, self.window + 1)",
            "np.maximum(leader - (window - 1), 0), place + 1": "np.maximum(leader - window, 0), place + 1",
            "(window - 1), 0), place + 1": "(window - 1), 0), place",
            "leader - window // 2, 0)": "leader - (window - 1) // 2, 0)",
            "members - window)": "members - window + 1)",
            "np.minimum(window, self.stride)": "self.stride",
            "stride - 1 if self.is_causal else stride // 2": "stride // 2",
            "place // stride * stride + offset": "place + offset",
            "+ offset, members - 1)": "+ offset, members)",
            "places < past[:, None]": "places <= past[:, None]",
            "% self.dilation + self.dilation * places": "% self.dilation + places",
        },
    ),
    "eyetoy/positional.py": Mutants(
        ["tests/eyetoy/test_positional.py"],
        {
            "angles.sin(), angles.cos()": "angles.cos(), angles.sin()",
            "-math.log(max_wavelength)": "math.log(max_wavelength)",
            "torch.arange(length, device=device)[:, None]": "torch.arange(1, length + 1, device=device)[:, None]",
            "(n if i == j else 1 for": "(n if i == len(grid) - 1 - j else 1 for",
            "channels < channels_for(num_spatial_dims)": "channels <= channels_for(num_spatial_dims)",
            "return x + self._positions": "return x - self._positions",
        },
    ),
    "eyetoy/global_stack.py": Mutants(
        ["tests/eyetoy/test_global_stack.py::test_mask_is_the_documented_pattern"],
        {
            "(query < num_global_tokens) |": "(query <= num_global_tokens) |",
            "(key < num_global_tokens) |": "(key <= num_global_tokens) |",
            "| (query == key)": "",
        },
    ),
    "eyetoy/lengths.py": Mutants(
        ["tests/eyetoy/test_lengths.py"],
        {
            "< lengths[:, None]": "<= lengths[:, None]",
            "-(-lengths // stride[0])": "lengths // stride[0]",
            "x[rows, lengths - 1]": "x[rows, lengths - 2]",
            "(lengths < 1) |": "(lengths < 0) |",
            "(lengths > x.shape[-1])": "(lengths > x.shape[-1] + 1)",
            "/ lengths[:, None]).to": "/ x.shape[1]).to",
            "torch.promote_types(x.dtype, torch.float32)": "x.dtype",
        },
    ),
    "eyetoy/hub.py": Mutants(
        ["tests/eyetoy/test_interface.py"],
        {
            "* (weight.shape[-1] / channels)": "",
            "weights[name] = own[name]\n            fitting.remove(name)": "fitting.remove(name)",
            "return model.to(map_location).eval()": "return model.to(map_location)",
        },
    ),
    "eyetoy_train/utils/files.py": Mutants(
        ["tests/eyetoy_train/checkpoint/test_checkpoint.py", "tests/eyetoy_train/data/test_folder.py"],
        {
            "    sync(partial)\n    partial.replace(path)": "    partial.replace(path)\n    sync(path)",
            "path.suffix.lower() not in extensions": "path.suffix not in extensions",
        },
    ),
    "eyetoy_train/checkpoint/atomic.py": Mutants(
        ["tests/eyetoy_train/checkpoint/test_checkpoint.py"],
        {
            "        if folder.exists():\n            folder.rename(backup)\n": (
                "        shutil.rmtree(folder, ignore_errors=True)\n"
            ),
            "        _write_manifest(partial)\n": "",
            "if not folder.exists() and backup.exists()": "if backup.exists()",
            "path.stat().st_size != size": "path.stat().st_size < size",
            "if _digest(path) != digest:": "if False:",
            "    folder.rename(partial)\n    shutil.rmtree(partial, ignore_errors=True)": (
                "    shutil.rmtree(folder, ignore_errors=True)"
            ),
            "        shutil.rmtree(partial, ignore_errors=True)\n        recover_folder(folder)": (
                "        recover_folder(folder)"
            ),
        },
    ),
    "eyetoy_train/checkpoint/retention.py": Mutants(
        ["tests/eyetoy_train/checkpoint/test_checkpoint.py"],
        {
            "[: -self.recipe.keep_last]": "[: -self.recipe.keep_last - 1]",
            'path.suffix == "" and is_complete(path)': 'path.suffix == ""',
            "check_folder(steps[-1])": "check_folder(steps[0])",
            "is_first = epoch == next(iter(ranking))": "is_first = True",
            "if folder not in kept:": "if folder in kept:",
        },
    ),
    "eyetoy_train/data/held_out.py": Mutants(
        ["tests/eyetoy_train/data/test_folder.py"],
        {
            "max(round(total * HELD_OUT[name]), 1)": "round(total * HELD_OUT[name])",
            "members = members[count:]": "members = members[count - 1 :]",
            'random.Random(derive_seed(seed, "split", label))': 'random.Random(derive_seed(0, "split", label))',
        },
    ),
    "eyetoy_train/data/group_choice.py": Mutants(
        ["tests/eyetoy_train/data/test_groups.py"],
        {
            "kept = None if kept_in is None else (parts.index(kept_in), self.cover(order))": "kept = None",
        },
    ),
    "eyetoy_train/data/loading.py": Mutants(
        ["tests/eyetoy_train/data/test_loading.py"],
        {
            "offset : offset + self.local_batch_size": "0 : self.local_batch_size",
            "max(size // batch_size, 1)": "max(-(-size // batch_size), 1)",
            'derive_seed(self.seed, "order", epoch)': 'derive_seed(self.seed, "order", 0)',
            "times + rounds * self.repeats": "times",
            "range(self.process, self.size, self.num_processes)": "range(0, self.size, self.num_processes)",
            "self.process + i * self.num_processes, self.size - 1": "self.process + i * self.num_processes, self.size",
        },
    ),
    "eyetoy_train/classification/metrics.py": Mutants(
        ["tests/eyetoy_train/classification/test_metrics.py", "tests/eyetoy_train/classification/test_multi_label.py"],
        {
            "index_put_((labels, ranked[:, 0])": "index_put_((ranked[:, 0], labels)",
            "topk(min(5, logits.shape[-1]))": "topk(min(4, logits.shape[-1]))",
            'reduction="sum"': 'reduction="mean"',
            "[seen] / truths[seen]": "[seen] / confusion.sum(0)[seen]",
            "seen = truths > 0": "seen = truths >= 0",
            ".ceil().long().clamp(1, NUM_BINS) - 1": ".long().clamp(0, NUM_BINS - 1)",
            "max(int(confusion[:, label].sum()), 1)": "max(int(confusion[label].sum()), 1)",
            "others[label] = 0": "pass",
            "predicted = logits > 0 ": "predicted = logits > 0.5 ",
            "precisions[labels.any(0)].mean()": "precisions.mean()",
            "2 * (predicted & labels)": "2 * (predicted | labels)",
        },
    ),
    "eyetoy_train/optim/ema.py": Mutants(
        ["tests/eyetoy_train/engine/test_ema_and_step_recorder.py"],
        {
            "(1 + step) / (10 + step)": "step / (10 + step)",
            "1 - self.decay_at(step)": "self.decay_at(step)",
        },
    ),
    "eyetoy_train/optim/schedule.py": Mutants(
        ["tests/eyetoy_train/optim/test_schedule.py"],
        {
            "recipe.lr * (step + 1) / (warmup + 1)": "recipe.lr * step / (warmup + 1)",
            "math.ceil(self.num_steps / self.steps_per_epoch)": "self.num_steps // self.steps_per_epoch",
        },
    ),
    "eyetoy_train/checkpoint/train_state.py": Mutants(
        ["tests/eyetoy_train/engine/test_ema_and_step_recorder.py", "tests/eyetoy_train/engine/test_trainer.py"],
        {
            "score > self.ranking[self.best_epoch]": "score >= self.ranking[self.best_epoch]",
            "math.inf), epoch), reverse=True": "math.inf), -epoch), reverse=True",
        },
    ),
    "eyetoy_train/data/splits.py": Mutants(
        ["tests/eyetoy_train/data/test_folder.py"],
        {
            '{"test": 0.2, "val": 0.1}': '{"test": 0.1, "val": 0.1}',
        },
    ),
}
"""By path below packages/."""


def try_mutant(module: str, old: str, new: str, tree: Path) -> bool:
    """Return whether a test fails, or does not end."""
    path = tree / "packages" / module
    whole = path.read_text(encoding="utf-8")
    if whole.count(old) != 1:
        raise ValueError(f"{module} must have this once: {old!r}; it has it {whole.count(old)} times")
    path.write_text(whole.replace(old, new), encoding="utf-8")
    try:
        return _tests_fail(MODULES[module].tests, tree)
    finally:
        path.write_text(whole, encoding="utf-8")


def _tests_fail(tests: list[str], tree: Path) -> bool:
    # A fork of a process that has PyTorch already, which takes longer to import than most tests take.
    process = os.fork()
    if not process:
        signal.alarm(MOST_SECONDS)
        os._exit(_run(tests, tree))
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) not in (0, 1, 2):
        raise RuntimeError(f"pytest ended with code {os.WEXITSTATUS(status)} on {tests}")
    return status != 0


def _run(tests: list[str], tree: Path) -> int:
    import pytest

    os.chdir(tree)
    sources = [tree / "packages", *(tree / "apps" / app / "src" for app in ("audio", "image", "video"))]
    sys.path[:0] = map(str, sources)
    os.environ |= {"PYTHONPATH": os.pathsep.join(map(str, sources)), "CI": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", CHEAP, *tests]))


def copy_tree(tree: Path) -> None:
    """Copy what tests need."""
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, tree / name, ignore=_ignored) if source.is_dir() else shutil.copy(source, tree / name)


def _ignored(folder: str, names: list[str]) -> set[str]:
    # Runs and data of an app lie directly in its folder; a package may have a module of such a name.
    large = {"runs", "data"} if Path(folder).parent == ROOT / "apps" else set()
    return {"__pycache__", *large} & set(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="mutants of modules whose path has this")
    parser.add_argument("--unchecked", action="store_true", help="take for granted that the tests pass as they are")
    options = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)

    chosen = {module: mutants for module, mutants in MODULES.items() if not options.only or options.only in module}
    num_mutants = sum(len(mutants.changes) for mutants in chosen.values())
    started, num_killed = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        for module, mutants in chosen.items():
            if not options.unchecked and _tests_fail(mutants.tests, tree):
                raise RuntimeError(f"the tests of {module} fail as they are: {mutants.tests}")
            for old, new in mutants.changes.items():
                is_killed = try_mutant(module, old, new, tree)
                num_killed += is_killed
                print(f"{'killed  ' if is_killed else 'SURVIVED'} {module} {old!r} -> {new!r}", flush=True)
    killed_share = num_killed / num_mutants
    print(f"{num_killed} of {num_mutants} mutants killed, {killed_share:.0%}, in {time.monotonic() - started:.0f} s")
    sys.exit(killed_share < NEEDED)


if __name__ == "__main__":
    main()
