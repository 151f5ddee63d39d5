"""Seconds per step of EXITS, against plain PyTorch and against MIL + CRF, in turn.

python -m benchmarks.step --config=configs/voc.py --config.batch_size=1 \
    --config.model.dtype=float32 [--against=torch,mil_crf] [--parts] \
    [--rounds=5] [--parts_rounds=5]

Real optimizer steps in one process; both frameworks use all cores. Without --workdir
crops are drawn and weights random; with it, they are those of the configuration:
--workdir=DIR --config.data.train=FILE --config.data.images=FOLDER
--config.init.encoder=FILE.
"""

import resource
import tempfile
from functools import partial

import torch
from absl import app, flags
from absl import logging as absl_logging

from benchmarks.aot.step import lower_step
from benchmarks.common.configuration import given, other_words
from benchmarks.common.drawn_batch import drawn_batch
from benchmarks.common.step_methods import JaxStep, start_of, torch_batch, torch_step
from benchmarks.common.step_parts import PARTS, jax_parts, torch_parts
from benchmarks.common.turns import comparison, median, num_cores, table, take_turns
from exits_jax.data.batches import train_batches
from exits_jax.models.params import count
from exits_jax.phases import prepare
from exits_jax.run.check_config import check_config
from exits_jax.run.from_config import crop_options, encoder_config, mesh_of
from exits_jax.run.host_memory import keep_memory
from exits_jax.run.prepared import training_instances
from exits_jax.run.workdir import Workdir
from exits_jax.train.sharding import shard_batch

_WORKDIR = flags.DEFINE_string("workdir", None, "Where annotations are prepared.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns, each one step of every method.")
_AGAINST = flags.DEFINE_list("against", ["torch", "mil_crf"], "Compared with ours.")
_PARTS = flags.DEFINE_bool("parts", True, "Whether the parts are timed too.")
_PARTS_ROUNDS = flags.DEFINE_integer("parts_rounds", 5, "Turns of each part.")
flags.register_validator(
    "against",
    lambda names: set(names) <= {"torch", "mil_crf", ""},
    message="takes torch and mil_crf",
)
flags.mark_flag_as_required("config")


def main(_) -> None:
    """Measures and prints."""
    keep_memory()  # for PyTorch as well
    absl_logging.set_verbosity(absl_logging.WARNING)
    torch.set_num_threads(num_cores())
    config = given()
    with tempfile.TemporaryDirectory() as scratch:
        workdir = Workdir(_WORKDIR.value or scratch)
        rows = _real_rows(config, workdir) if _WORKDIR.value else _drawn_rows(config)
        start = start_of(config, workdir)
    batch = shard_batch(mesh_of(config), rows)
    plain = torch_step(config, start) if "torch" in _AGAINST.value else None
    _whole_steps(config, start, batch, rows, plain)
    if _PARTS.value:
        _parts(config, start, batch, rows, plain)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count(start.generator):,} parameters; the process took {peak:.1f} GiB")


def _real_rows(config, workdir: Workdir):
    check_config(config)
    workdir.open(config)
    prepare.run(config, workdir)
    batches = train_batches(
        training_instances(config, workdir),
        crop_options(config),
        seed=config.seed,
        global_batch=config.batch_size,
        start_step=0,
        num_steps=1,
    )
    return next(iter(batches))


def _drawn_rows(config):
    config.init.encoder = config.init.extractor = ""  # random weights
    config.init.generator_from, config.pretrain.enabled = "encoder", False
    return drawn_batch(config.batch_size, config.crop.size, seed=config.seed)


def _whole_steps(config, start, batch, rows, plain) -> None:
    ours = JaxStep(config, start, method="exits")
    steps = {"EXITS": partial(ours, batch)}
    if plain is not None:
        steps["EXITS, PyTorch"] = partial(plain, torch_batch(rows))
    if "mil_crf" in _AGAINST.value:
        baseline = JaxStep(config, start, method="mil_crf")
        steps["MIL + CRF"] = partial(baseline, batch)
    times = take_turns(steps, rounds=_ROUNDS.value)
    encoder = encoder_config(config, role="generator")
    print(
        f"\nViT of {encoder.depth} blocks, {encoder.dim} wide; {config.crop.size} px, "
        f"batch {config.batch_size}, {config.model.dtype}\n"
    )
    print(table(times, unit="s") + "\n")
    for name, wanted in (("EXITS, PyTorch", "0.85"), ("MIL + CRF", "1.15")):
        if name in times:
            title = f"EXITS over {name}"
            print(comparison(title, times["EXITS"], times[name], f"{wanted} or less"))
    print(_memory(config) + "\n", flush=True)


def _memory(config) -> str:
    """What XLA plans for the two compiled calls of a step; compiles them for that."""
    lowered = lower_step(config, mesh_of(config), rows=config.batch_size)
    lines = [
        "",
        "| compiled call | arguments, MiB | temporary, MiB |",
        "| --- " * 3 + "|",
    ]
    for name, call in (("label_step", lowered.label), ("train_step", lowered.train)):
        plan = call.compile().memory_analysis()
        sizes = (plan.argument_size_in_bytes, plan.temp_size_in_bytes)
        given, temporary = (size / 2**20 for size in sizes)
        lines.append(f"| {name} | {given:,.0f} | {temporary:,.0f} |")
    return "\n".join(lines)


def _parts(config, start, batch, rows, plain) -> None:
    calls = jax_parts(config, start, batch)
    if plain is not None:
        others = torch_parts(plain, torch_batch(rows))
        calls = {
            title: call
            for name in calls
            for title, call in ((name, calls[name]), (f"{name}, PyTorch", others[name]))
        }
    times = take_turns(calls, rounds=_PARTS_ROUNDS.value)
    print("\n" + table(times))
    whole = sum(median(times[name]).wall_s for name in PARTS)
    print(f"\nsum of our parts: {whole:.2f} s\n", flush=True)


if __name__ == "__main__":
    app.run(main, argv=other_words())
