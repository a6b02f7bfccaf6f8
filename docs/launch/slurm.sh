#!/usr/bin/env bash
# Two nodes with eight GPUs each under Slurm. Arguments after the script's name go to train.py:
#   sbatch docs/launch/slurm.sh apps/image/train.py --output_dir /shared/runs/mine --mixed_precision bf16
#SBATCH --job-name=eyetoy
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# Slurm sends SIGTERM two minutes before the time limit. The run saves, and resumes when the job restarts.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110 # seconds that the launcher gives its processes to save; 30 otherwise
# Not `| head -n 1`: with pipefail, a listing that is still being written when head ends would end the job.
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export first
srun bash -c 'exec accelerate launch --config_file docs/launch/2_nodes_8_gpus.yaml \
    --machine_rank "$SLURM_PROCID" --main_process_ip "$first" --main_process_port 29500 "$@"' launch "$@"
