# Stage 2: trains mmdet models on pseudo masks, on a CPU or NVIDIA GPUs.
#
#   docker build --file launch/docker/stage2.Dockerfile --tag exits:stage2 \
#     --build-arg TORCH_INDEX=INDEX_OF_CPU_BUILDS .  # without it: larger, runs as well
#   docker build --file launch/docker/stage2.Dockerfile --tag exits:stage2-cuda \
#     --build-arg BASE=IMAGE_WITH_NVCC --build-arg CUDA=cu130 \
#     --build-arg TORCH_CUDA_ARCH_LIST='8.0;9.0' .
#   docker run --rm --gpus all --shm-size 8g --volume "$PWD/data:/app/data:ro" \
#     --volume "$PWD/runs:/app/runs" exits:stage2-cuda configs/mmdet/solov2_r50_fpn_3x.py \
#     --train=runs/coco/pseudo_masks.json --images=data/coco/train2017 \
#     --val=data/coco/annotations/instances_val2017.json --val-images=data/coco/val2017 \
#     --workdir=runs/coco/solov2
#
# Assumes: built from the repository root; BASE is Debian or Ubuntu with Python 3.11 or
# newer, and for CUDA has the nvcc of that version; runs/ can be written by user 1000.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG CUDA=0
ARG TORCH_INDEX=
ARG TORCH_CUDA_ARCH_LIST=
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
# A compiler for the operators of mmcv, and what OpenCV needs.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libgl1 libglib2.0-0 \
    && (python3 -c 'import ensurepip, venv' \
        || apt-get install --yes --no-install-recommends python3-dev python3-venv) \
    && rm -rf /var/lib/apt/lists/*
COPY launch/stage2_env.sh launch/stage2_requirements.txt ./launch/
RUN CUDA="$CUDA" TORCH_INDEX="$TORCH_INDEX" TORCH_CUDA_ARCH_LIST="$TORCH_CUDA_ARCH_LIST" \
    XDG_CACHE_HOME=/opt/cache STAGE2_VENV=/opt/stage2 launch/stage2_env.sh \
    && rm -rf /opt/cache \
    && (id 1000 || useradd --uid 1000 --create-home exits) \
    && install --directory --owner=1000 runs
COPY exits_jax ./exits_jax
COPY configs ./configs

USER 1000
# Python is process 1 and gets the signals: SIGTERM saves the run, which ends with 75.
ENTRYPOINT ["/opt/stage2/bin/python", "-m", "exits_jax.stage2"]
