#!/usr/bin/env bash
# Puts the repository and its environment on every host of a Cloud TPU pod slice.
#
#   TPU_NAME=exits-32 ZONE=europe-west4-a REPOSITORY=URL launch/tpu_setup.sh
#
# Assumes: gcloud is logged in; the hosts can clone REPOSITORY; their PYTHON (python3) is
# 3.11 or newer. Run again, it updates both.
set -euo pipefail

: "${TPU_NAME:?name of the TPU}" "${ZONE:?its zone}" "${REPOSITORY:?git URL to clone}"
python=${PYTHON:-python3}

run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else "$@"; fi; }

setup="set -e
if [ -d exits_jax ]; then git -C exits_jax pull --ff-only
else git clone $(printf '%q' "$REPOSITORY") exits_jax; fi
cd exits_jax
[ -d .venv ] || $(printf '%q' "$python") -m venv .venv
.venv/bin/pip install -c constraints.txt -e '.[tpu]'"

run gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
  --command="$setup"
