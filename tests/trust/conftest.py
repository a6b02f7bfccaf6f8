"""A payload that leaves a mark if it runs, and a way to measure what a reader takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MEASURE = """
import resource, sys
{setup}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    {call}
    print("read")
except (ValueError, OSError, RuntimeError) as error:
    print(f"refused: {{type(error).__name__}}: {{error}}")
print(peak() - before)
"""


class Payload:
    """An object whose unpickling makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def payload(tmp_path):
    """Something that makes `mark` when it is unpickled; the test fails if that happened."""
    mark = tmp_path / "it_ran"
    yield Payload(mark)
    assert not mark.exists()


@pytest.fixture
def measured():
    """Run a call in a process of its own; return what was said of it and the megabytes that it took."""

    def run(setup: str, call: str, *arguments: object) -> tuple[str, int]:
        code = MEASURE.format(setup=setup, call=call)
        command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert found.returncode == 0, found.stderr
        said, megabytes = found.stdout.strip().rsplit("\n", 1)
        return said, int(megabytes)

    return run
