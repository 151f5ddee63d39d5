#!/usr/bin/env bash
# Runs stage 1 on the NVIDIA GPUs of this machine: one process that uses all of them.
#
#   launch/gpu.sh configs/coco.py [--workdir=runs/coco ...]
#   CUDA_VISIBLE_DEVICES=0,2 launch/gpu.sh configs/coco.py
#
# Assumes: the environment is in .venv with the extra `cuda` (README.md, "Install");
# config.batch_size is a multiple of the number of GPUs.
# JAX_PLATFORMS=cuda ends a run that finds no GPU; otherwise, and with cuda,cpu too, it
# would go on, slowly, on the CPU. XLA_FLAGS reaches the run as it is; none is set here.
# Asked to stop (SIGTERM), the run saves itself and exits with 75: start it again.
set -euo pipefail

config=${1:?usage: launch/gpu.sh CONFIG [FLAGS...]}
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -v CUDA_VISIBLE_DEVICES && -z "$CUDA_VISIBLE_DEVICES" ]]; then
  echo "CUDA_VISIBLE_DEVICES is empty: it hides every GPU; name some or unset it" >&2
  exit 2
fi

run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else exec "$@"; fi; }

run env JAX_PLATFORMS=cuda .venv/bin/python -m exits_jax.main --config="$config" "$@"
