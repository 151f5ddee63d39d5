"""Seconds per step of EXITS and of its MIL + CRF baseline, in turn, in one process.

python -m benchmarks.step --config=configs/voc.py --config.data.train=FILE \
    --config.data.images=FOLDER --config.init.encoder= --config.batch_size=2 \
    --workdir=runs/step [--steps=3] [--rounds=3]

Real optimizer steps on real crops: both methods see the same batches. The last lines
give the share that Sinkhorn, propagation and retrieval have in an EXITS step.
"""

import resource
import statistics
import time
from functools import partial

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from exits_jax.data.batches import train_batches
from exits_jax.models.params import abstract_graph, count
from exits_jax.ops.retrieval import retrieve_points
from exits_jax.phases import prepare
from exits_jax.phases.check_config import check_config
from exits_jax.phases.inputs import training_instances
from exits_jax.phases.options import (
    crf_options,
    crop_options,
    generator_builder,
    image_stats,
    loss_weights,
    point_options,
)
from exits_jax.phases.runs import jitted_step, labeler
from exits_jax.phases.train import generator_start
from exits_jax.phases.warmup import extractor_start
from exits_jax.phases.workdir import Workdir
from exits_jax.train.objectives import box_objective, exits_objective
from exits_jax.train.optimizer import adamw, learning_rate
from exits_jax.train.sharding import data_mesh, replicate, replicated, shard_batch
from exits_jax.train.state import TrainState
from exits_jax.train.step import batch_points

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where annotations are prepared.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps of a method before the other's turn.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Turns of each method.")


def main(_) -> None:
    """Measures and prints."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    config, workdir = _CONFIG.value, Workdir(_WORKDIR.value)
    check_config(config)
    workdir.open(config)
    prepare.run(config, workdir)
    objects = training_instances(config, workdir)
    mesh = data_mesh()
    batches = [
        shard_batch(mesh, rows)
        for rows in train_batches(
            objects,
            crop_options(config),
            seed=config.seed,
            global_batch=config.batch_size,
            start_step=0,
            num_steps=_STEPS.value,
        )
    ]
    methods = {name: _method(config, workdir, name) for name in ("mil_crf", "exits")}
    states, times = {}, {name: [] for name in methods}
    for name, (state, step_fn) in methods.items():
        started = time.perf_counter()
        states[name], metrics = step_fn(state, batches[0])
        jax.block_until_ready(metrics)
        print(f"{name}: compilation and first step {_since(started):.1f} s", flush=True)
    for _ in range(_ROUNDS.value):
        for name, (_, step_fn) in methods.items():
            for batch in batches:
                started = time.perf_counter()
                states[name], metrics = step_fn(states[name], batch)
                jax.block_until_ready((states[name], metrics))
                times[name].append(_since(started))
    for name, seconds in times.items():
        print(
            f"{name}: median {statistics.median(seconds):.2f} s/step "
            f"(min {min(seconds):.2f}, max {max(seconds):.2f}, {len(seconds)} steps)"
        )
    ratios = [a / b for a, b in zip(times["exits"], times["mil_crf"], strict=True)]
    print(f"ratio exits / mil_crf: median of pairs {statistics.median(ratios):.3f}")
    retrieval = _retrieval_seconds(config, batches[0])
    share = retrieval / statistics.median(times["exits"])
    print(f"Sinkhorn + propagation + retrieval: {retrieval * 1e3:.1f} ms, {share:.2%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"generator: {count(states['exits'].params):,} parameters; peak {peak:.1f} GiB"
    )


def _since(started: float) -> float:
    return time.perf_counter() - started


def _method(config, workdir: Workdir, name: str):
    """Initial state and step of one method, as phase `train` makes them."""
    mesh = data_mesh()
    graph = abstract_graph(generator_builder(config, role="generator"))
    stats, crf = image_stats(config), crf_options(config)
    make_labels = None
    with config.unlocked():
        chosen = config.copy_and_resolve_references()
    chosen.loss.method = name
    weights = loss_weights(chosen)
    if name == "exits":
        loss_fn = exits_objective(
            graph, weights=weights, crf=crf, stats=stats, pooling=config.loss.pooling
        )
        extractor = extractor_start(config, workdir)["encoder"]
        make_labels = labeler(config, extractor, point_options(config, {}))
    else:
        loss_fn = box_objective(graph, weights=weights, crf=crf, stats=stats)
    peak = config.optimizer.lr_per_sample * config.batch_size
    schedule = learning_rate(peak=peak, num_steps=1000, warmup_steps=100)
    optimizer = adamw(
        schedule,
        betas=tuple(config.optimizer.betas),
        weight_decay=config.optimizer.weight_decay,
    )
    params = replicate(mesh, generator_start(config, workdir))
    create = partial(TrainState.create, optimizer=optimizer, with_teacher=True)
    state = jax.jit(create, out_shardings=replicated(mesh))(params)
    step_fn = jitted_step(
        mesh,
        loss_fn=loss_fn,
        optimizer=optimizer,
        schedule=schedule,
        teacher_decay=config.train.teacher_decay,
        make_labels=make_labels,
    )
    return state, step_fn


def _retrieval_seconds(config, batch) -> float:
    """Median time from similarities to pseudo points, for one batch."""
    options = point_options(config, {})
    side = config.crop.size // config.model.patch_size
    scores = jax.random.normal(jax.random.key(0), (config.batch_size, side**2, side**2))
    similarity = jax.nn.softmax(2 * scores, axis=-1)

    def retrieve(matrix, rows):
        initial = batch_points(
            rows, options=options, patch_size=config.model.patch_size
        )
        return retrieve_points(
            matrix,
            initial,
            num_hops=options.num_hops,
            fg_threshold=options.fg_threshold,
            bg_threshold=options.bg_threshold,
            num_rounds=options.num_rounds,
        )

    compiled = jax.jit(retrieve)
    jax.block_until_ready(compiled(similarity, batch))
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        jax.block_until_ready(compiled(similarity, batch))
        seconds.append(_since(started))
    return statistics.median(seconds)


if __name__ == "__main__":
    app.run(main)
