#!/usr/bin/env bash
# Runs stage 1 on every host of a Cloud TPU pod slice.
#
#   TPU_NAME=exits-32 ZONE=europe-west4-a launch/tpu_pod.sh configs/coco.py \
#     --workdir=/mnt/shared/runs/coco
#
# Assumes: gcloud is logged in; the repository and its environment are on every host
# (launch/tpu_setup.sh); data and workdir are on a file system that all hosts mount.
set -euo pipefail

config=${1:?usage: launch/tpu_pod.sh CONFIG [FLAGS...]}
shift
: "${TPU_NAME:?name of the TPU}" "${ZONE:?its zone}"

run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

command=".venv/bin/python -m exits_jax.main --distributed"
command+=$(printf ' %q' "--config=$config" "$@")
run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
  --command="cd exits_jax && $command"
