# Stage 1 on Cloud TPU: the image of launch/gke.sh.
#
#   docker build --file launch/docker/tpu.Dockerfile --tag REGISTRY/exits:tpu .
#   docker push REGISTRY/exits:tpu
#
# Assumes: built from the repository root, on an x86-64 machine or for linux/amd64.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 JAX_PLATFORMS=tpu,cpu
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY exits_jax ./exits_jax
COPY configs ./configs
COPY convert_weights ./convert_weights
RUN pip install -c constraints.txt -e '.[tpu]' \
    && useradd --uid 1000 --create-home exits \
    && install --directory --owner=exits runs

USER exits
# Python is process 1 and gets the signals: SIGTERM saves the run, which ends with 75.
ENTRYPOINT ["python", "-m", "exits_jax.main"]
