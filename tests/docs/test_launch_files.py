"""The shipped files for `accelerate launch` and Slurm: read by Accelerate, and one of them launched."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from helpers.forks import FORKS
from helpers.paths import REPOSITORY

FILES = sorted((REPOSITORY / "docs" / "launch").glob("*.yaml"))
EXPECTED = {
    "cpu_2_processes": ("MULTI_GPU", 1, 2),
    "1_gpu": ("NO", 1, 1),
    "8_gpus": ("MULTI_GPU", 1, 8),
    "2_nodes_8_gpus": ("MULTI_GPU", 2, 16),
    "fsdp_8_gpus": ("FSDP", 1, 8),
}


def test_all_of_them_are_expected():
    assert {path.stem for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_it_as_what_its_name_says(path):
    config = load_config_from_file(str(path))
    assert (config.distributed_type.value, config.num_machines, config.num_processes) == EXPECTED[path.stem]
    assert (config.fsdp_config or {}).get("fsdp_version") == (2 if path.stem.startswith("fsdp") else None)


def test_two_processes_on_a_cpu_are_two(tmp_path):
    launch = ["-m", "accelerate.commands.launch"]
    config = ["--config_file", str(REPOSITORY / "docs" / "launch" / "cpu_2_processes.yaml")]
    script = [str(REPOSITORY / "apps" / "image" / "train.py"), "--max_steps", "1", "--output_dir", "run"]
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = FORKS.run([*launch, *config, *script], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["environment"]["processes"] == 2
    assert results["test"]["count"] == 360


def test_the_slurm_script_is_valid_and_starts_what_it_is_given(tmp_path):
    """With stand-ins for Slurm and Accelerate that print what they are called with."""
    for name, text in {
        "scontrol": "echo node1; echo node2",
        "srun": 'SLURM_PROCID=1 exec "$@"',
        "accelerate": 'printf "%s\\n" "$@"',
    }.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    command = [
        "/bin/bash",
        str(REPOSITORY / "docs" / "launch" / "slurm.sh"),
        "apps/image/train.py",
        "--name",
        "two words",
    ]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[1-2]"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    arguments = done.stdout.splitlines()
    assert arguments[arguments.index("--machine_rank") + 1] == "1"
    assert arguments[arguments.index("--main_process_ip") + 1] == "node1"
    assert arguments[-3:] == ["apps/image/train.py", "--name", "two words"]
