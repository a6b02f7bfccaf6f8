"""Thousands of damaged files or odd folders for every reader: `python tools/fuzz/fuzz.py --count 5000 --seconds 120`.

A reader may take a file, or refuse it by one of `REFUSALS`. Anything else is a finding: another exception, a crash, ten
seconds without an end, or three gigabytes; its input is kept in `--output`. Every reader runs in a process of its own,
which writes each input down before it is read.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

MOST_SECONDS = 10
MOST_MEMORY = 3 * 2**30
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**40, 2**63, 2**64 - 1)
WORDS = (
    *(
        "null",
        "true",
        "-1",
        "0",
        "1e999",
        "NaN",
        "Infinity",
        "-Infinity",
        "99999999999999999999",
        "0.5",
        '""',
        "[]",
        "{}",
    ),
    *(
        '"\\u0000"',
        "[[[[[[[[",
        "{{{{",
        "1" * 5000,
        "\x00",
        "\ufeff",
        "\r\n",
        "\t",
        ",",
        ":",
        "- ",
        "*a",
        "&a x",
        "!!str",
    ),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "!!python/object/apply:os.abort []",
        '"' + "x" * 10_000 + '"',
        "\u2028",
        "'",
        ";",
    ),
)


@dataclass
class Result:
    """What came of a reader's files."""

    target: str
    count: int = 0
    read: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)


def mutate(content: bytes, others: list[bytes], draw: random.Random, *, text: bool) -> bytes:
    """Change a file in one to four places."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        in_words = text and draw.random() < 0.6
        changed = _change_word(changed, draw) if in_words else _change_bytes(changed, others, draw)
    return bytes(changed)


def _change_word(content: bytearray, draw: random.Random) -> bytearray:
    """Put another value where one stands between delimiters."""
    ends = [place for place, byte in enumerate(content) if byte in b" ,:[]{}\n\t;"] or [0]
    start = draw.choice(ends)
    stop = next((end for end in ends if end > start), len(content))
    return content[: start + 1] + draw.choice(WORDS).encode() + content[stop:]


def _change_bytes(content: bytearray, others: list[bytes], draw: random.Random) -> bytearray:
    # Headers decide most: half of the changes are near the start.
    at = draw.randrange(min(len(content), 256) if draw.random() < 0.5 else len(content)) if content else 0
    size = min(draw.choice((1, 2, 4, 8, 64, 1024)), len(content) - at)
    kind = draw.randrange(8)
    if kind == 0 and content:
        content[at] ^= 1 << draw.randrange(8)
    elif kind == 1:
        content[at : at + size] = draw.randbytes(size)
    elif kind == 2:
        width = draw.choice(("<B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
        value = struct.pack(width, draw.choice(NUMBERS) % (1 << 8 * struct.calcsize(width)))
        content[at : at + len(value)] = value
    elif kind == 3:
        del content[at : at + size]
    elif kind == 4:
        content[at:at] = content[at : at + size]
    elif kind == 5:
        del content[at:]
    elif kind == 6:
        content[at:at] = bytes(size) if draw.random() < 0.5 else draw.randbytes(size)
    else:
        other = draw.choice(others)
        content[at:] = other[min(at, len(other)) :]
    return content


def fuzz(target: str, count: int, seconds: float, seed: int, output: Path | None) -> Result:
    """Give a reader so many files, or as many as it takes in the time."""
    result, draw, started = Result(target), random.Random(f"{seed} {target}"), time.monotonic()
    with tempfile.TemporaryDirectory() as aside:
        current = Path(aside, "current")
        while result.count < count and time.monotonic() - started < seconds and len(result.findings) < 20:
            states = (seconds - (time.monotonic() - started), count - result.count, draw.getrandbits(64))
            died = _in_a_process(target, states, current, result)
            if died:
                result.findings.append(died)
                if output:
                    output.mkdir(parents=True, exist_ok=True)
                    (output / f"{target}-{seed}-{len(result.findings)}").write_bytes(current.read_bytes())
    result.seconds = time.monotonic() - started
    return result


def _in_a_process(target: str, states: tuple[float, int, int], current: Path, result: Result) -> str:
    """Read files until one is a finding; return what it did, or nothing."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        os.close(reader)
        with os.fdopen(writer, "w") as pipe:
            _work(target, *states, current, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(process, 0)
    lines = said.splitlines()
    result.count += sum(line in ("read", "refused") for line in lines)
    result.read += lines.count("read")
    if os.WIFSIGNALED(status):
        result.count += 1
        return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
    wrong = [line for line in lines if line not in ("read", "refused")]
    result.count += bool(wrong)
    return "\n".join(wrong)


def _work(target: str, seconds: float, count: int, seed: int, current: Path, pipe: io.TextIOBase) -> None:
    read, seeds, text = TARGETS.readers[target]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, used + MOST_MEMORY))
    draw, until = random.Random(seed), time.monotonic() + seconds
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
    ):
        os.dup2(nowhere.fileno(), 2)
        for _ in range(count):
            if time.monotonic() > until:
                return
            content = seeds(draw) if callable(seeds) else mutate(draw.choice(seeds), seeds, draw, text=text)
            current.write_bytes(content)
            signal.alarm(MOST_SECONDS)
            outcome = attempt(read, content)
            signal.alarm(0)
            pipe.write(f"{outcome}\n")
            pipe.flush()
            if outcome not in ("read", "refused"):
                return


def attempt(read: Callable[[bytes], object], content: bytes) -> str:
    """Return `read`, `refused`, or where something else came from."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(content)
    except TARGETS.REFUSALS:
        return "refused"
    except SystemExit as error:
        return "refused" if error.code == 2 else f"exit code {error.code}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]!r} at {Path(place.filename).name}:{place.lineno}"
    return "read"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"eyetoy_tests_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TARGETS = _load(Path(__file__).with_name("readers.py"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="files for each reader")
    parser.add_argument("--seconds", type=float, default=120, help="for each reader, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=TARGETS.readers, nargs="+", default=list(TARGETS.readers))
    parser.add_argument("--output", type=Path, help="a folder for the inputs of findings")
    options = parser.parse_args()
    results = [fuzz(name, options.count, options.seconds, options.seed, options.output) for name in options.target]
    for result in results:
        print(f"{result.target:<14} {result.count:>6} files, {result.read:>6} read, {result.seconds:6.1f} s", end="")
        print(f", {len(result.findings)} findings", *result.findings, sep="\n    ")
    print(f"{sum(result.count for result in results)} files in {sum(result.seconds for result in results):.0f} s")
    sys.exit(any(result.findings for result in results))


if __name__ == "__main__":
    main()
