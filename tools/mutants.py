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


class Mutant(NamedTuple):
    """A text of a module, which is there once, and what is put in its place."""

    module: str
    old: str
    new: str


TESTS = {
    "eyetoy/neighborhood/window.py": ["tests/eyetoy/test_window_rule.py"],
    "eyetoy/positional.py": ["tests/eyetoy/test_positional.py"],
    "eyetoy/global_attention.py": ["tests/eyetoy/test_global_stack.py::test_mask_is_the_documented_pattern"],
    "eyetoy/lengths.py": ["tests/eyetoy/test_lengths.py"],
    "eyetoy/hub.py": ["tests/eyetoy/test_interface.py"],
    "eyetoy_train/checkpoint.py": ["tests/eyetoy_train/checkpoint/test_checkpoint.py"],
    "eyetoy_train/kept.py": ["tests/eyetoy_train/checkpoint/test_checkpoint.py"],
    "eyetoy_train/class_folder.py": ["tests/eyetoy_train/data/test_folder.py"],
    "eyetoy_train/data.py": ["tests/eyetoy_train/data/test_loading.py"],
    "eyetoy_train/classification_metrics.py": ["tests/eyetoy_train/classification/test_metrics.py"],
    "eyetoy_train/multi_label.py": ["tests/eyetoy_train/classification/test_multi_label.py"],
    "eyetoy_train/ema.py": ["tests/eyetoy_train/engine/test_ema_and_step_recorder.py"],
    "eyetoy_train/schedule.py": ["tests/eyetoy_train/optim/test_schedule.py"],
    "eyetoy_train/progress.py": [
        "tests/eyetoy_train/engine/test_ema_and_step_recorder.py",
        "tests/eyetoy_train/engine/test_trainer.py",
    ],
}

WINDOW, POSITIONS = "eyetoy/neighborhood/window.py", "eyetoy/positional.py"
GLOBAL, LENGTHS, HUB = "eyetoy/global_attention.py", "eyetoy/lengths.py", "eyetoy/hub.py"
CHECKPOINT, KEPT, SPLIT = "eyetoy_train/checkpoint.py", "eyetoy_train/kept.py", "eyetoy_train/class_folder.py"
DATA, METRICS, LABELS = "eyetoy_train/data.py", "eyetoy_train/classification_metrics.py", "eyetoy_train/multi_label.py"
EMA, SCHEDULE, PROGRESS = "eyetoy_train/ema.py", "eyetoy_train/schedule.py", "eyetoy_train/progress.py"

MUTANTS = [
    Mutant(WINDOW, "self.window >= self.length and", "self.window > self.length and"),
    Mutant(WINDOW, "self.dilation == 1 and not self.is_causal", "self.dilation == 1"),
    Mutant(WINDOW, "query % self.dilation, query // self.dilation", "query // self.dilation, query % self.dilation"),
    Mutant(WINDOW, "(group < self.length % self.dilation)", "(group <= self.length % self.dilation)"),
    Mutant(WINDOW, "np.minimum(members, self.window)", "np.minimum(members, self.window + 1)"),
    Mutant(WINDOW, "np.maximum(leader - (window - 1), 0), place + 1", "np.maximum(leader - window, 0), place + 1"),
    Mutant(WINDOW, "(window - 1), 0), place + 1", "(window - 1), 0), place"),
    Mutant(WINDOW, "leader - window // 2, 0)", "leader - (window - 1) // 2, 0)"),
    Mutant(WINDOW, "members - window)", "members - window + 1)"),
    Mutant(WINDOW, "np.minimum(window, self.stride)", "self.stride"),
    Mutant(WINDOW, "stride - 1 if self.is_causal else stride // 2", "stride // 2"),
    Mutant(WINDOW, "place // stride * stride + offset", "place + offset"),
    Mutant(WINDOW, "+ offset, members - 1)", "+ offset, members)"),
    Mutant(WINDOW, "places < past[:, None]", "places <= past[:, None]"),
    Mutant(WINDOW, "% self.dilation + self.dilation * places", "% self.dilation + places"),
    Mutant(POSITIONS, "angles.sin(), angles.cos()", "angles.cos(), angles.sin()"),
    Mutant(POSITIONS, "-math.log(self.max_wavelength)", "math.log(self.max_wavelength)"),
    Mutant(
        POSITIONS, "torch.arange(length, device=device)[:, None]", "torch.arange(1, length + 1, device=device)[:, None]"
    ),
    Mutant(POSITIONS, "(n if i == j else 1 for", "(n if i == len(grid) - 1 - j else 1 for"),
    Mutant(POSITIONS, "channels < channels_for(num_spatial_dims)", "channels <= channels_for(num_spatial_dims)"),
    Mutant(POSITIONS, "return x + self.positions", "return x - self.positions"),
    Mutant(GLOBAL, "(query < num_global_tokens) |", "(query <= num_global_tokens) |"),
    Mutant(GLOBAL, "(key < num_global_tokens) |", "(key <= num_global_tokens) |"),
    Mutant(GLOBAL, "| (query == key)", ""),
    Mutant(LENGTHS, "< lengths[:, None]", "<= lengths[:, None]"),
    Mutant(LENGTHS, "-(-lengths // stride[0])", "lengths // stride[0]"),
    Mutant(LENGTHS, "x[rows, lengths - 1]", "x[rows, lengths - 2]"),
    Mutant(LENGTHS, "(lengths < 1) |", "(lengths < 0) |"),
    Mutant(LENGTHS, "(lengths > x.shape[-1])", "(lengths > x.shape[-1] + 1)"),
    Mutant(LENGTHS, "/ lengths[:, None]).to", "/ x.shape[1]).to"),
    Mutant(LENGTHS, "torch.promote_types(x.dtype, torch.float32)", "x.dtype"),
    Mutant(HUB, "* (weight.shape[-1] / channels)", ""),
    Mutant(HUB, "weights[name] = own[name]", "pass"),
    Mutant(HUB, "return model.to(map_location).eval()", "return model.to(map_location)"),
    Mutant(
        CHECKPOINT,
        "        if folder.exists():\n            folder.rename(backup)\n",
        "        shutil.rmtree(folder, ignore_errors=True)\n",
    ),
    Mutant(CHECKPOINT, "        _write_manifest(partial)\n", ""),
    Mutant(CHECKPOINT, "if not folder.exists() and backup.exists()", "if backup.exists()"),
    Mutant(CHECKPOINT, "path.stat().st_size != size", "path.stat().st_size < size"),
    Mutant(CHECKPOINT, "if _digest(path) != digest:", "if False:"),
    Mutant(CHECKPOINT, "    _sync(partial)\n    partial.replace(path)", "    partial.replace(path)\n    _sync(path)"),
    Mutant(
        CHECKPOINT,
        "    folder.rename(partial)\n    shutil.rmtree(partial, ignore_errors=True)",
        "    shutil.rmtree(folder, ignore_errors=True)",
    ),
    Mutant(
        CHECKPOINT,
        "        shutil.rmtree(partial, ignore_errors=True)\n        recover_folder(folder)",
        "        recover_folder(folder)",
    ),
    Mutant(KEPT, "[: -self.recipe.keep_last]", "[: -self.recipe.keep_last - 1]"),
    Mutant(KEPT, 'path.suffix == "" and is_complete(path)', 'path.suffix == ""'),
    Mutant(KEPT, "check_folder(steps[-1])", "check_folder(steps[0])"),
    Mutant(KEPT, "is_first = epoch == next(iter(ranking))", "is_first = True"),
    Mutant(KEPT, "if folder not in kept:", "if folder in kept:"),
    Mutant(SPLIT, "max(round(total * HELD_OUT[name]), 1)", "round(total * HELD_OUT[name])"),
    Mutant(SPLIT, "members = members[count:]", "members = members[count - 1 :]"),
    Mutant(SPLIT, 'random.Random(derive_seed(seed, "split", label))', 'random.Random(derive_seed(0, "split", label))'),
    Mutant(SPLIT, "if path.suffix.lower() in extensions", "if path.suffix in extensions"),
    Mutant(SPLIT, '{"test": 0.2, "val": 0.1}', '{"test": 0.1, "val": 0.1}'),
    Mutant(DATA, "self.process * self.share : (self.process + 1) * self.share", "0 : self.share"),
    Mutant(DATA, "max(size // batch_size, 1)", "max(-(-size // batch_size), 1)"),
    Mutant(DATA, 'derive_seed(self.seed, "order", epoch)', 'derive_seed(self.seed, "order", 0)'),
    Mutant(DATA, "return place, times + rounds * self.repeats", "return place, times"),
    Mutant(DATA, "range(self.process, self.size, self.num_processes)", "range(0, self.size, self.num_processes)"),
    Mutant(
        DATA, "self.process + i * self.num_processes, self.size - 1", "self.process + i * self.num_processes, self.size"
    ),
    Mutant(METRICS, "index_put_((labels, ranked[:, 0])", "index_put_((ranked[:, 0], labels)"),
    Mutant(METRICS, "topk(min(5, logits.shape[-1]))", "topk(min(4, logits.shape[-1]))"),
    Mutant(METRICS, 'reduction="sum"', 'reduction="mean"'),
    Mutant(METRICS, "[seen] / truths[seen]", "[seen] / confusion.sum(0)[seen]"),
    Mutant(METRICS, "seen = truths > 0", "seen = truths >= 0"),
    Mutant(METRICS, ".ceil().long().clamp(1, NUM_BINS) - 1", ".long().clamp(0, NUM_BINS - 1)"),
    Mutant(METRICS, "max(int(confusion[:, label].sum()), 1)", "max(int(confusion[label].sum()), 1)"),
    Mutant(METRICS, "others[label] = 0", "pass"),
    Mutant(LABELS, "predicted = logits > 0\n", "predicted = logits > 0.5\n"),
    Mutant(LABELS, "precisions[labels.any(0)].mean()", "precisions.mean()"),
    Mutant(LABELS, "2 * (predicted & labels)", "2 * (predicted | labels)"),
    Mutant(EMA, "(1 + step) / (10 + step)", "step / (10 + step)"),
    Mutant(EMA, "1 - self.decay_at(step)", "self.decay_at(step)"),
    Mutant(SCHEDULE, "recipe.lr * (step + 1) / (warmup + 1)", "recipe.lr * step / (warmup + 1)"),
    Mutant(SCHEDULE, "math.ceil(self.num_steps / self.steps_per_epoch)", "self.num_steps // self.steps_per_epoch"),
    Mutant(PROGRESS, "score > self.ranking[self.best_epoch]", "score >= self.ranking[self.best_epoch]"),
    Mutant(PROGRESS, "(scores[epoch], epoch), reverse=True", "(scores[epoch], -epoch), reverse=True"),
]


def try_mutant(mutant: Mutant, tree: Path) -> bool:
    """Return whether a test fails, or does not end."""
    path = tree / "packages" / mutant.module
    whole = path.read_text(encoding="utf-8")
    if whole.count(mutant.old) != 1:
        raise ValueError(
            f"{mutant.module} must have this once: {mutant.old!r}; it has it {whole.count(mutant.old)} times"
        )
    path.write_text(whole.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return _tests_fail(TESTS[mutant.module], tree)
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
        ignored = shutil.ignore_patterns("__pycache__", "runs", "data")
        shutil.copytree(source, tree / name, ignore=ignored) if source.is_dir() else shutil.copy(source, tree / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="mutants of modules whose path has this")
    parser.add_argument("--unchecked", action="store_true", help="take for granted that the tests pass as they are")
    options = parser.parse_args()
    for name in PRELOADED:
        importlib.import_module(name)

    chosen = [mutant for mutant in MUTANTS if not options.only or options.only in mutant.module]
    started, survivors = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        for module in sorted({mutant.module for mutant in chosen} if not options.unchecked else ()):
            if _tests_fail(TESTS[module], tree):
                raise RuntimeError(f"the tests of {module} fail as they are: {TESTS[module]}")
        for mutant in chosen:
            killed = try_mutant(mutant, tree)
            survivors += [] if killed else [mutant]
            print(
                "killed  " if killed else "SURVIVED",
                mutant.module,
                repr(mutant.old),
                "->",
                repr(mutant.new),
                flush=True,
            )
    killed_share = 1 - len(survivors) / len(chosen)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed, {killed_share:.0%}, in ", end="")
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(killed_share < NEEDED)


if __name__ == "__main__":
    main()
