# /// script
# requires-python = ">=3.11"
# dependencies = ["nox>=2025.2.9"]
# ///
"""Tasks for a clone, one command each: `python noxfile.py -s image`, or `nox -s image`.

All sessions share one environment, .venv, because torch alone is gigabytes. Without nox, `python noxfile.py` first
installs it there; Python and pip are the only requirements.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ENVIRONMENT = Path(__file__).parent / ".venv"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")

try:
    import nox
except ModuleNotFoundError:
    if not BIN.exists():  # an existing one may be of another Python
        venv.create(ENVIRONMENT, with_pip=False)
    # With the pip of this Python, because some systems lack ensurepip.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(BIN / "python"), "install", "-q"]
    subprocess.run([*pip, "pip", "nox>=2025.2.9"], check=True)
    raise SystemExit(subprocess.run([str(BIN / "python"), __file__, *sys.argv[1:]]).returncode) from None

DIMENSIONS = [1, 2, 3]
DEVICES = ["cpu", "cuda", "mps"]

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]

session = nox.session(venv_backend="none")


def install(session: nox.Session) -> None:
    """Install the project with all extras into .venv, again only if its requirements have changed."""
    if not BIN.exists():
        session.run(sys.executable, "-m", "virtualenv", str(ENVIRONMENT))
    requirements = [Path("pyproject.toml"), Path("constraints.txt")]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in requirements)).hexdigest()
    stamp = ENVIRONMENT / "installed.sha256"
    if not stamp.exists() or stamp.read_text() != wanted:
        run(session, "python", "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", ".[dev]")
        stamp.write_text(wanted)


def run(session: nox.Session, program: str, *arguments: str, **variables: str) -> None:
    """Run a program of .venv, with further environment variables."""
    environment = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | variables
    session.run(str(BIN / program), *arguments, env=environment)


def launch(session: nox.Session, script: str) -> None:
    """Run a training script in one process, with the options of the session; `accelerate launch` starts several."""
    install(session)
    run(session, "python", script, *session.posargs)


@session
def image(session: nox.Session) -> None:
    """Train and evaluate the image encoder on scikit-learn's digits; options are passed on to train.py."""
    launch(session, "apps/image/train.py")


@session
def audio(session: nox.Session) -> None:
    """Train and evaluate the audio encoder on synthesised keywords; options are passed on to train.py."""
    launch(session, "apps/audio/train.py")


@session
def video(session: nox.Session) -> None:
    """Train and evaluate the video encoder on moving digits; options are passed on to train.py."""
    launch(session, "apps/video/train.py")


@session
def demo(session: nox.Session) -> None:
    """Serve a page to try the included models and those of runs; options are passed on to demo.py."""
    install(session)
    run(session, "python", "apps/demo/demo.py", *session.posargs)


@session
def weights(session: nox.Session) -> None:
    """Train the three included models again, in eight minutes or so, and write their weights; see tools/weights.py."""
    install(session)
    run(session, "python", "tools/weights.py", *session.posargs)


@session
def tests(session: nox.Session) -> None:
    """Check style and types, then run the whole test suite, a file on each core; options are passed on to pytest."""
    install(session)
    check(session)
    # Files go out in the order of collection: the longest come first, which have few tests.
    how = ["-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder"]
    run(session, "pytest", *how, *session.posargs, OMP_NUM_THREADS="1")


@session
@nox.parametrize("device", DEVICES)
@nox.parametrize("dimension", DIMENSIONS)
def matrix(session: nox.Session, dimension: int, device: str) -> None:
    """Run the encoders' tests for one dimension on one device."""
    install(session)
    run(session, "pytest", "tests/eyetoy", f"--dimension={dimension}", f"--device={device}", *session.posargs)


@session
@nox.parametrize("dimension", DIMENSIONS)
def interpreter(session: nox.Session, dimension: int) -> None:
    """Compare the Triton kernels, interpreted on a CPU, with the reference on 500 random problems of a dimension."""
    install(session)
    variables = {"TRITON_INTERPRET": "1", "EYETOY_NUM_PROBLEMS": "500", "OMP_NUM_THREADS": "1"}
    arguments = ["-q", "tests/eyetoy/interpreted_triton.py", f"--dimension={dimension}", *session.posargs]
    run(session, "pytest", *arguments, **variables)


@session
def kernels(session: nox.Session) -> None:
    """Compile the Triton kernels for all shapes of all models and four GPUs, none of which has to be there."""
    install(session)
    run(session, "python", "benchmarks/kernels.py", "--all", *session.posargs)


@session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    install(session)
    check(session)


@session
def docs(session: nox.Session) -> None:
    """Build the documentation into site, with warnings as errors."""
    install(session)
    command = ["mkdocs", "build", "--strict", "--config-file", "mkdocs.yml"]
    run(session, *command, *session.posargs, NO_MKDOCS_2_WARNING="1")


@session
def fuzz(session: nox.Session) -> None:
    """Give every reader thousands of damaged files or odd folders, for half an hour at most; see tools/fuzz/fuzz.py."""
    install(session)
    run(session, "python", "tools/fuzz/fuzz.py", *session.posargs, OMP_NUM_THREADS="1")


@session
def mutants(session: nox.Session) -> None:
    """Break one line at a time, and check that tests fail; see tools/mutants.py for options."""
    install(session)
    run(session, "python", "tools/mutants.py", *session.posargs, OMP_NUM_THREADS="1")


@session
def installs(session: nox.Session) -> None:
    """Install the wheel alone, with each extra, and with other versions of PyTorch; see tools/installs.py."""
    install(session)
    run(session, "python", "-m", "pip", "install", "-q", "uv")
    run(session, "python", "tools/installs.py", *session.posargs)


@session
def audit(session: nox.Session) -> None:
    """Check the installed packages for known vulnerabilities; needs a network."""
    install(session)
    run(session, "python", "-m", "pip", "install", "-q", "pip-audit")
    run(session, "pip-audit", "--skip-editable", *session.posargs)


def check(session: nox.Session) -> None:
    """Run the linter, the formatter and the type checker."""
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")
    run(session, "mypy")


if __name__ == "__main__":
    nox.main()
