"""Running the commands that a user types."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def run_command():
    """Run a script of the repository in a folder, alone or under `accelerate launch` with several processes."""

    def run(folder: Path, script: str, *arguments: object, processes: int | None = None, check: bool = True):
        command = [sys.executable]
        if processes:
            # Port 0 is any free one: tests of other files may launch at the same time.
            command += ["-m", "accelerate.commands.launch", "--main_process_port", "0"]
            command += ["--num_processes", str(processes)]
            command += ["--multi_gpu"] if processes > 1 else []
        command += [str(REPOSITORY / script), *map(str, arguments)]
        environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400, check=False
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    return run
