"""How many threads a process computes with on a CPU: all cores, unless somebody has chosen another number."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads."""
LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""Environment variables of which a launcher sets one or the other for the processes that it starts."""
OPTION = "--num_cpu_threads_per_process"
"""The option of `accelerate launch` for the number of threads."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux tells a container its share of the cores: microseconds of time in a period, such as `200000 100000`."""


def free_threads() -> int | None:
    """Return this process's share of the cores, or None if the user has chosen a number of threads.

    `accelerate launch` and `torchrun` give their processes one thread, by OMP_NUM_THREADS, where the user has not set
    it. What they have set does not count here: it is not in the environment that they were started with.
    """
    if any(variable in os.environ for variable in VARIABLES) and not _set_by_launcher():
        return None
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _set_by_launcher() -> bool:
    if not any(name in os.environ for name in LAUNCHED):
        return False
    try:
        launcher = psutil.Process(os.getppid())
        given, command = launcher.environ(), launcher.cmdline()
    except (psutil.Error, OSError):  # another user's, or gone
        return False
    # A shell between the two has the launcher's variables too, and may have set the number of threads itself.
    has_launched = any(name in os.environ and name not in given for name in LAUNCHED)
    has_chosen = any(variable in given for variable in VARIABLES)
    return has_launched and not has_chosen and not any(word.startswith(OPTION) for word in command)


def available_cores() -> int:
    """Return the number of physical cores that this process may use."""
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(logical, psutil.cpu_count(logical=False) or logical)
    try:
        time, period = QUOTA.read_text(encoding="ascii").split()
        return min(cores, max(1, int(time) // int(period)))
    except (OSError, ValueError):  # another system, or "max" for no limit
        return cores
