"""What an installed wheel does in an environment of its own: `python tools/installs.py`, or `nox -s installs`.

The wheel is built twice, which must give the same bytes. Then it is installed alone, with the newest PyTorch and the
oldest, with each extra alone, and with the newest and the oldest of everything, for every supported Python that is
there. For those that are not there, uv looks whether each extra has wheels for this system, and nothing runs: what was
only resolved is printed. Every environment is new, and what runs in it has an empty home and no project beside it but
the apps' scripts. uv installs, since it links files that it has where pip would copy 6 GB again; the cache is in the
temporary folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("", "train", "image", "audio", "video", "demo", "export", "torchcodec")
"""What must have wheels. natten and pytorchvideo (in baselines and dev) have none for any Python, and are built where
they are installed."""
FEW = "--max_steps 2 --num_workers 0 --output_dir run --data.root data"


class Case(NamedTuple):
    """What is installed, and what must then run in the environment: arguments of its Python."""

    extra: str
    options: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]


def program(text: str) -> tuple[str, ...]:
    """Return the arguments that run a program given as text."""
    return "-c", text


def script(path: str, arguments: str = FEW) -> tuple[str, ...]:
    """Return the arguments that run a script of the tree."""
    return f"{{tree}}/{path}", *arguments.split()


ENCODES = program("""
import sys, torch, eyetoy
for dimension, shape in ((1, (1, 1024)), (2, (3, 64, 48)), (3, (3, 4, 32, 32))):
    encoder = eyetoy.create_encoder(f"eyetoy{dimension}d_pico", in_channels=shape[0])
    features, context = encoder(torch.randn(2, *shape))
    assert features.isfinite().all() and context.shape[0] == 2
    features.sum().backward()
for name in ("torchvision", "torchaudio", "accelerate", "datasets", "av", "PIL", "matplotlib", "jsonargparse"):
    assert name not in sys.modules, f"the library imports {name}"
print("encodes on torch", torch.__version__)
""")
NO_NATTEN = program("""
from eyetoy import available_backends, na2d
import torch
x = torch.randn(1, 8, 8, 2, 8)
na2d(x, x, x, window=3)
assert available_backends("cpu")["natten"], "natten should say why it is not there"
print("without natten:", available_backends("cpu")["natten"])
""")
BASELINES = program("""
import timm, torch
from eyetoy import register_timm_models
register_timm_models()
print("timm makes", timm.create_model("eyetoy_pico", num_classes=3)(torch.randn(1, 3, 64, 64)).shape)
""")
EXPORTS = program("""
import onnxruntime, torch
from eyetoy import create_model
model, x = create_model("eyetoy2d_pico", num_classes=3).eval(), torch.randn(1, 3, 64, 64)
torch.onnx.export(model, (x,), "model.onnx", dynamo=True, verbose=False)
session = onnxruntime.InferenceSession("model.onnx")
(scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
assert abs(torch.from_numpy(scores) - model(x)).max() < 1e-4
print("onnxruntime gives the model's scores")
""")
DECODES = program("from eyetoy_train.media.sound import describe_decoders; print(describe_decoders())")
DOCS = ("-m", "mkdocs", "build", "-q", "--strict", "-f", "{tree}/mkdocs.yml", "-d", "{here}/site")
TRAINS = {app: script(f"apps/{app}/train.py") for app in ("image", "audio", "video")}

PINNED = ("-c", str(ROOT / "constraints.txt"))
LOWEST = ("--resolution", "lowest-direct")
CASES: dict[str, Case] = {
    "alone, newest torch": Case("", (), (ENCODES, NO_NATTEN)),
    "oldest torch": Case("", ("torch==2.11.*",), (ENCODES,)),
    "train": Case("train", PINNED, (program("import eyetoy_train; print('the engine is there')"),)),
    **{app: Case(app, PINNED, (command,)) for app, command in TRAINS.items()},
    "torchcodec": Case("torchcodec", PINNED, (DECODES,)),
    "demo": Case("demo", PINNED, (script("apps/demo/demo.py", "--help"),)),
    "baselines": Case("baselines", PINNED, (BASELINES,)),
    "export": Case("export", PINNED, (EXPORTS,)),
    "docs": Case("docs", PINNED, (DOCS,)),
    "everything oldest": Case("image,audio,video", LOWEST, (ENCODES, *TRAINS.values())),
    "everything newest": Case("image,audio,video", (), (ENCODES, *TRAINS.values())),
}


def build(folder: Path) -> Path:
    """Build the wheel of the files that git knows, in a copy with other times of change."""
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder / "wheel"), str(source)]
    subprocess.run(command, check=True)
    return next((folder / "wheel").glob("*.whl"))


def build_twice(folder: Path) -> Path:
    """Build the wheel in two places; return one of them.

    Raises:
        ValueError: they differ.
    """
    first = build(folder / "first")
    time.sleep(2)  # archives keep times of two seconds' resolution
    if first.read_bytes() != build(folder / "second").read_bytes():
        raise ValueError("two builds of the wheel differ")
    return first


def try_case(case: Case, python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel as a case says, and run its commands."""
    home, venv = folder / "home", folder / "venv"
    home.mkdir()
    requirement = f"eyetoy[{case.extra}] @ {wheel.as_uri()}" if case.extra else f"eyetoy @ {wheel.as_uri()}"
    uv = [sys.executable, "-m", "uv", "-q", "--cache-dir", str(folder.parent / "cache")]
    subprocess.run([*uv, "venv", "-p", python, str(venv)], check=True)
    subprocess.run([*uv, "pip", "install", "-p", str(venv), requirement, *case.options], check=True)
    environment = {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "HOME": str(home), "OMP_NUM_THREADS": "1"}
    tree = wheel.parents[1] / "source"
    for number, command in enumerate(case.commands):
        here = folder / f"work{number}"
        here.mkdir()
        arguments = [text.replace("{tree}", str(tree)).replace("{here}", str(here)) for text in command]
        subprocess.run([venv / "bin" / "python", *arguments], env=environment, cwd=here, check=True)


def resolve(extra: str, python: str, wheel: Path, folder: Path) -> str:
    """Find wheels of all that an extra needs, for a Python that need not be there; return the versions that matter."""
    name = f"eyetoy[{extra}]" if extra else "eyetoy"
    needs = folder / "needs.txt"
    needs.write_text(f"{name} @ {wheel.as_uri()}\n", encoding="utf-8")
    command = [sys.executable, "-m", "uv", "-q", "--cache-dir", str(folder / "cache"), "pip", "compile", str(needs)]
    command += ["--python-version", python, "--only-binary", ":all:", "--no-header", "--no-annotate"]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return ", ".join(line for line in found if line.startswith(("torch==", "torchvision==", "torchaudio==", "numpy==")))


def find_python(version: str) -> str | None:
    """Return a Python that starts: from the path, where a version manager's stand-in may not, or one of pyenv."""
    own = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    for program in (shutil.which(f"python{version}"), *map(str, own)):
        if program and not subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode:
            return program
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=list(CASES), nargs="+", default=list(CASES))
    parser.add_argument("--python", nargs="+", choices=PYTHONS, default=PYTHONS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_twice(Path(folder))
        print("two builds of", wheel.name, "are equal", flush=True)
        for version in options.python:
            python = find_python(version)
            for extra in () if python else EXTRAS:
                found = resolve(extra, version, wheel, Path(folder))
                print(f"Python {version}, resolved and not run: {extra or 'alone'}, {found}", flush=True)
            for name in options.case if python else ():
                started, place = time.monotonic(), Path(folder) / "case"
                place.mkdir()
                try_case(CASES[name], str(python), wheel, place)
                shutil.rmtree(place)
                print(f"Python {version}, {name}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
