"""What an installed wheel does in an environment of its own: `python tests/installs.py`, or `nox -s installs`.

The wheel is built twice, which must give the same bytes. Then it is installed alone, with each extra alone, and with
the oldest and the newest PyTorch, for every supported Python that is there; one environment at a time, of 6 GB at most,
in a temporary folder, with an empty home.
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

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12")
ENCODES = """
import sys, torch, eyetoy
for dimension, shape in ((1, (1, 1024)), (2, (3, 64, 48)), (3, (3, 4, 32, 32))):
    encoder = eyetoy.create_encoder(f"eyetoy{dimension}d_pico", in_channels=shape[0])
    features, context = encoder(torch.randn(2, *shape))
    assert features.isfinite().all() and context.shape[0] == 2
for name in ("torchvision", "torchaudio", "accelerate", "datasets", "av", "PIL", "matplotlib", "jsonargparse"):
    assert name not in sys.modules, f"the library imports {name}"
print("encodes on torch", torch.__version__)
"""
NO_NATTEN = """
from eyetoy import available_backends, na2d
import torch
x = torch.randn(1, 8, 8, 2, 8)
na2d(x, x, x, window=3)
assert available_backends("cpu")["natten"], "natten should say why it is not there"
print("without natten:", available_backends("cpu")["natten"])
"""
DESCRIBES = "from eyetoy_{0}.decoding.choice import describe_decoders; import eyetoy_{0}.classification; "
DESCRIBES += "print(describe_decoders())"
IMPORTS = {
    "train": "import eyetoy_train; print('the engine is there')",
    "image": "import eyetoy_image.apps; print('pictures are there')",
    "audio": DESCRIBES.format("audio"),
    "video": DESCRIBES.format("video"),
}
CASES: dict[str, tuple[str, list[str], list[str]]] = {
    "alone": ("", [], [ENCODES, NO_NATTEN]),
    "oldest torch": ("", ["torch==2.11.*"], [ENCODES]),
    "newest torch": ("", ["torch<2.15"], [ENCODES]),
    **{extra: (f"[{extra}]", ["-c", str(ROOT / "constraints.txt")], [check]) for extra, check in IMPORTS.items()},
}
"""By name: the extra, what else pip is given, and programs that must run."""


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


def try_case(name: str, python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel as a case says, and run its programs."""
    extra, options, programs = CASES[name]
    home, venv = folder / "home", folder / "venv"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}
    environment |= {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_", "REQUESTS_"))}
    subprocess.run([sys.executable, "-m", "virtualenv", "-q", "-p", python, str(venv)], check=True)
    requirement = f"eyetoy{extra} @ {wheel.as_uri()}"
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "-q", "--no-cache-dir"]
    subprocess.run([*pip, requirement, *options], check=True)
    for program in programs:
        subprocess.run([venv / "bin" / "python", "-c", program], env=environment, cwd=home, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=["build", *CASES], nargs="+", default=["build", *CASES])
    parser.add_argument("--python", nargs="+", default=[p for p in PYTHONS if shutil.which(f"python{p}")])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_twice(Path(folder))
        print("two builds of", wheel.name, "are equal", flush=True)
        for python in options.python:
            for case in options.case:
                if case == "build":
                    continue
                started = time.monotonic()
                with tempfile.TemporaryDirectory() as place:
                    try_case(case, python, wheel, Path(place))
                print(f"Python {python}, {case}: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
