# Stage 1 on NVIDIA GPUs of one machine. CUDA itself comes with the Python packages.
#
#   docker build --file launch/docker/cuda.Dockerfile --tag exits:cuda .
#   docker run --rm --gpus all --volume "$PWD/data:/app/data:ro" \
#     --volume "$PWD/weights:/app/weights:ro" --volume "$PWD/runs:/app/runs" \
#     exits:cuda --config=configs/coco.py
#
# Assumes: built from the repository root; the host has a driver for CUDA 13 and the
# NVIDIA container toolkit; runs/ can be written by user 1000.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 \
    JAX_PLATFORMS=cuda NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY exits_jax ./exits_jax
COPY configs ./configs
COPY convert_weights ./convert_weights
RUN pip install -c constraints.txt -e '.[cuda]' \
    && useradd --uid 1000 --create-home exits \
    && install --directory --owner=exits runs

USER exits
# Python is process 1 and gets the signals: SIGTERM saves the run, which ends with 75.
ENTRYPOINT ["python", "-m", "exits_jax.main"]
