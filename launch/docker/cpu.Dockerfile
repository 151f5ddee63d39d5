# Stage 1 on a CPU: the quickstart, small models, and preparing or exporting data.
#
#   docker build --file launch/docker/cpu.Dockerfile --tag exits:cpu .
#   docker run --rm --volume "$PWD/data:/app/data:ro" --volume "$PWD/weights:/app/weights:ro" \
#     --volume "$PWD/runs:/app/runs" exits:cpu --config=configs/custom.py:cpu
#
# Assumes: built from the repository root; runs/ can be written by user 1000.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY exits_jax ./exits_jax
COPY configs ./configs
COPY convert_weights ./convert_weights
RUN pip install -c constraints.txt -e '.' \
    && useradd --uid 1000 --create-home exits \
    && install --directory --owner=exits runs

USER exits
# Python is process 1 and gets the signals: SIGTERM saves the run, which ends with 75.
ENTRYPOINT ["python", "-m", "exits_jax.main"]
