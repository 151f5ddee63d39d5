#!/usr/bin/env bash
# Runs stage 1 on this machine, on every CPU, GPU or TPU device that JAX finds.
#
#   launch/local.sh configs/voc.py [--workdir=runs/voc ...]
#
# Assumes: the environment is in .venv (README.md, "Install").
# Asked to stop (SIGTERM), the run saves itself and exits with 75: start it again.
set -euo pipefail

config=${1:?usage: launch/local.sh CONFIG [FLAGS...]}
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() { if [[ -n "${DRY_RUN:-}" ]]; then printf '%q ' "$@" && echo; else exec "$@"; fi; }

run .venv/bin/python -m exits_jax.main --config="$config" "$@"
