#!/usr/bin/env bash
# Runs stage 1 on GPUs of a Slurm cluster: one process per GPU.
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --time=24:00:00 \
#     launch/slurm.sh configs/coco.py --workdir=/shared/runs/coco
#
# Assumes: submitted from the repository root; the environment is in .venv; repository,
# data and workdir are on a file system that all nodes mount. Each task sees all GPUs of
# its node (--gpus-per-node, not --gpus-per-task): JAX gives it the one of its rank there.
# Two minutes before its time limit the run is asked to save itself; it exits with 75
# and the job goes back into the queue.
#SBATCH --job-name=exits
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

config=${1:?usage: sbatch [OPTIONS] launch/slurm.sh CONFIG [FLAGS...]}
shift
cd "${SLURM_SUBMIT_DIR:-.}"

run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

status=0
run srun .venv/bin/python -m exits_jax.main --distributed --config="$config" "$@" \
  || status=$?
if [[ $status == 75 ]]; then
  run scontrol requeue "${SLURM_JOB_ID:?not inside a Slurm job}"
fi
exit "$status"
