"""Run Python programs in forks of a process that has imported other people's libraries, such as PyTorch.

To import them takes up to five seconds, which is more than most programs of the tests take for their work. Nothing of
EyeToy is imported before the fork, so that a program imports what it needs of it like any new process. Otherwise a
fork is like a new process, too: it has its own folder, environment, arguments, output, signals and exit code.

The libraries read some variables as they are imported, such as HF_HOME: start a process of its own to change those.

Only Linux can fork a process of these libraries; elsewhere every program is a new process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

LIBRARIES = (
    *("accelerate", "attrs", "datasets", "docstring_parser", "filelock", "jinja2", "jsonargparse", "numpy", "psutil"),
    *("huggingface_hub._snapshot_download", "huggingface_hub.hub_mixin", "safetensors.torch", "tqdm", "yaml"),
    *("matplotlib.backends.backend_agg", "matplotlib.figure", "tensorboard.compat", "torch.utils.tensorboard"),
    *("torch._dynamo", "torch.distributed.checkpoint.state_dict", "torch.distributed.fsdp", "torch.utils.data"),
    *("PIL.Image", "pycocotools.cocoeval", "scipy.stats", "skimage", "sklearn.datasets", "sklearn.metrics"),
    *("soundfile", "timm", "torchaudio", "torchvision.datasets", "torchvision.transforms.v2"),
)
START = "from helpers.forks import serve; serve()"


class Running:
    """A running program, with what is needed of `subprocess.Popen`; what it prints goes to two files."""

    def __init__(self, out: IO[bytes], err: IO[bytes]) -> None:
        self._out, self._err = out, err
        self.pid = 0
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, which a kill brings after `timeout` seconds, and return the exit code."""
        if self.returncode is None:
            if not self._ends_within(timeout):
                self.kill()
                raise TimeoutError(f"process {self.pid} did not end within {timeout} seconds")
            self.returncode = self._end()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end and return what was printed, and to the standard error."""
        self.wait(timeout)
        return self._printed(self._out), self._printed(self._err)

    def kill(self) -> None:
        """End the program at once."""
        if self.returncode is None:
            os.kill(self.pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _ends_within(self, timeout: float | None) -> bool:
        raise NotImplementedError

    def _end(self) -> int:
        """Return the exit code of a program that has ended."""
        raise NotImplementedError

    @staticmethod
    def _printed(file: IO[bytes]) -> str:
        file.seek(0)
        return file.read().decode()


class Forked(Running):
    """A program in a fork."""

    def __init__(self, status: socket.socket, out: IO[bytes], err: IO[bytes]) -> None:
        super().__init__(out, err)
        # Without a buffer, so that what is not read yet is what `select` sees.
        self._status = status.makefile("rb", buffering=0)
        self.pid = int(self._status.readline())

    def _ends_within(self, timeout: float | None) -> bool:
        return bool(select.select([self._status], [], [], timeout)[0])

    def _end(self) -> int:
        return int(self._status.readline())


class Started(Running):
    """A program in a new process."""

    def __init__(self, arguments: list[str], folder: Path, env: dict[str, str], out: IO[bytes], err: IO[bytes]) -> None:
        super().__init__(out, err)
        self._process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=env, stdout=out, stderr=err, start_new_session=True
        )
        self.pid = self._process.pid

    def _ends_within(self, timeout: float | None) -> bool:
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _end(self) -> int:
        return self._process.wait()


class Forks:
    """Starts programs; the process that is forked begins with the first one."""

    def __init__(self, *, can_fork: bool = sys.platform == "linux") -> None:
        self._can_fork = can_fork
        self._server: socket.socket | None = None

    def start(
        self,
        arguments: Sequence[object],
        *,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        merge: bool = False,
    ) -> Running:
        """Start a program in a session of its own.

        Args:
            arguments: those of Python: a script, `-m` and a module or `-c` and code, and the program's own.
            cwd: its folder; by default the present one.
            env: its environment; by default that of this process.
            merge: keep what it prints and its errors in one text, in their order.
        """
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 (open until the program has ended)
        words, folder, variables = list(map(str, arguments)), cwd or Path.cwd(), env or {**os.environ}
        if not self._can_fork:
            return Started(words, folder, variables, out, out if merge else err)
        if self._server is None:
            self._server = self._begin()
        ours, theirs = socket.socketpair()
        request = {"arguments": words, "cwd": str(folder), "env": variables}
        descriptors = [theirs.fileno(), out.fileno(), (out if merge else err).fileno()]
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self._server, [message], descriptors)
        self._server.sendall(message[sent:])
        theirs.close()
        return Forked(ours, out, err)

    def run(
        self, arguments: Sequence[object], *, timeout: float | None = 400, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; see `start`."""
        process = self.start(arguments, **options)
        out, err = process.communicate(timeout)
        return subprocess.CompletedProcess([sys.executable, *arguments], process.returncode or 0, out, err)

    def run_several(self, number: int, arguments: Sequence[object], *, env: dict[str, str], **options: Any) -> str:
        """Run a program in several processes, and return what the first printed; all must end well.

        Each has the variables of `accelerate launch --multi_gpu --num_processes NUMBER`, and the launcher itself is
        left out: it imports PyTorch and Accelerate a third time, and its processes cannot be forks.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        together = {"WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1"}
        together |= {"MASTER_PORT": str(port), "ACCELERATE_MIXED_PRECISION": "no", "TORCHELASTIC_RUN_ID": "none"}
        processes = [
            self.start(arguments, env=env | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, **options)
            for rank in range(number)
        ]
        try:
            ends = [process.communicate(200) for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * number, ends
        return ends[0][0]

    @staticmethod
    def _begin() -> socket.socket:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        # What libraries read as they are imported, and programs of the tests have all alike.
        fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
        command = [sys.executable, "-c", START, str(theirs.fileno())]
        subprocess.Popen(command, env=os.environ | fixed, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        return ours


FORKS = Forks()


def serve() -> None:
    """Import the libraries, and start a program for each request that comes in, until the tests have ended."""
    own = ["", *os.environ["PYTHONPATH"].split(os.pathsep)]
    installed = [place for place in sys.path if place not in own]
    requests = socket.socket(fileno=int(sys.argv[1]))
    ended = {"code": 0}
    atexit.register(_leave, ended)  # the first one that is registered is the last one to run
    for name in LIBRARIES:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of it
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, 2**16, 3)
        while message and not message.endswith(b"\n"):
            message += requests.recv(2**16)
        if not message:
            return
        if not os.fork():
            requests.close()
            break
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()
    _wait_for_another(socket.socket(fileno=descriptors[0]))
    os.setsid()
    for descriptor, place in zip(descriptors[1:], (1, 2), strict=True):
        os.dup2(descriptor, place)
        os.close(descriptor)
    ended["code"] = _exit_code(json.loads(message), installed)


def _leave(ended: dict[str, int]) -> None:
    """Exit without taking all libraries down, which takes longer than a small program does."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended["code"])


def _reap() -> None:
    """Let those go that have ended."""
    with contextlib.suppress(ChildProcessError):  # there is none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_another(status: socket.socket) -> None:
    """Return in a new process, whose number and exit code this one reports."""
    process = os.fork()
    if process:
        status.sendall(f"{process}\n".encode())
        _, code = os.waitpid(process, 0)
        status.sendall(f"{os.waitstatus_to_exitcode(code)}\n".encode())
        os._exit(0)
    status.close()


def _exit_code(request: dict[str, Any], installed: list[str]) -> int:
    """Run a program and return its exit code."""
    try:
        _become(request, installed)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)  # noqa: T201
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _become(request: dict[str, Any], installed: list[str]) -> None:
    """Run a program as Python would at its start."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    what, *arguments = request["arguments"]
    paths = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    sys.path[:] = [
        "" if what == "-c" else request["cwd"] if what == "-m" else str(Path(what).parent),
        *paths,
        *installed,
    ]
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "helpers"]:
        del sys.modules[name]
    if what == "-c":
        sys.argv = ["-c", *arguments[1:]]
        exec(compile(arguments[0], "<string>", "exec"), vars(sys.modules["__main__"]))  # noqa: S102
    elif what == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [what, *arguments]
        runpy.run_path(what, run_name="__main__")
