#!/usr/bin/env bash
# Trains an mmdet model on pseudo masks and measures its mask AP: stage 2.
#
#   launch/stage2.sh CONFIG PSEUDO_JSON IMAGES VAL_JSON [FLAGS...]
#   launch/stage2.sh configs/mmdet/solov2_r50_fpn_3x.py runs/coco/pseudo_masks.json \
#     data/coco/train2017 data/coco/instances_val2017.json \
#     --val-images=data/coco/val2017 --workdir=runs/coco/stage2
#   GPUS=8 launch/stage2.sh ...                     # all of this machine's eight GPUs
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 launch/stage2.sh ...  # Slurm
#
# Assumes: the environment is in .venv-stage2 (make stage2-env). Without GPUS and Slurm
# it takes one GPU or, where there is none, the CPU. Without --workdir the run goes to
# runs/stage2/CONFIG's name. The files are checked once, before the processes start.
# Stopped by a signal, it goes on when it is started again; after status 75 a Slurm job
# queues itself again.
#SBATCH --job-name=exits-stage2
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

usage="usage: launch/stage2.sh CONFIG PSEUDO_JSON IMAGES VAL_JSON [FLAGS...]"
config=${1:?$usage}
train=${2:?$usage}
images=${3:?$usage}
val=${4:?$usage}
shift 4
if [[ -n "${SLURM_JOB_ID:-}" ]]; then
  cd "${SLURM_SUBMIT_DIR:-.}"
else
  cd "$(dirname "${BASH_SOURCE[0]}")/.."
fi

run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }
become() { if [[ -n "${DRY_RUN:-}" ]]; then run "$@"; else exec "$@"; fi; }

workdir="runs/stage2/$(basename "${config%.py}")"
flags=("$config" --train="$train" --images="$images" --val="$val" --workdir="$workdir" "$@")
python=.venv-stage2/bin/python

if [[ -n "${SLURM_JOB_ID:-}" ]]; then
  run "$python" -m exits_jax.stage2 "${flags[@]}" --check-only
  status=0
  run srun --kill-on-bad-exit=1 "$python" -m exits_jax.stage2 "${flags[@]}" \
    --no-check --launcher=slurm || status=$?
  if [[ $status == 75 ]]; then
    run scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$status"
fi
if [[ "${GPUS:-1}" -gt 1 ]]; then
  run "$python" -m exits_jax.stage2 "${flags[@]}" --check-only
  become "$python" -m torch.distributed.run --standalone --nproc-per-node="$GPUS" \
    -m exits_jax.stage2 "${flags[@]}" --no-check --launcher=pytorch
else
  become "$python" -m exits_jax.stage2 "${flags[@]}"
fi
