"""The order of the phases, and what each of them depends on."""

import ml_collections as mlc

from exits_jax.run.from_config import needs_warmup, trains_generator, uses_generator
from exits_jax.run.identity import refuse_changed
from exits_jax.run.workdir import Workdir

DATA = ("seed", "data")
# The parts of a configuration that decide what each phase makes.
SECTIONS = {
    "prepare": DATA,
    "pretrain": (*DATA, "batch_size", "crop", "model", "init", "optimizer", "pretrain"),
}
SECTIONS["warmup"] = (
    *SECTIONS["pretrain"],
    "decoder",
    "similarity",
    "warmup",
    "points",
)
SECTIONS["train"] = (*SECTIONS["warmup"], "labels", "prompt", "loss", "train")
SECTIONS["generate"] = (*SECTIONS["train"], "generate", "walk", "dense_crf")
SECTIONS["evaluate"] = (*SECTIONS["generate"], "evaluate")


def uses(config: mlc.ConfigDict, phase: str) -> bool:
    """Whether the configuration has a use for what a phase makes."""
    return {
        "pretrain": config.pretrain.enabled,
        "warmup": needs_warmup(config),
        "train": trains_generator(config),
    }.get(phase, True)


def begin(config: mlc.ConfigDict, workdir: Workdir, phase: str) -> bool:
    """Begins or continues a phase; False if it was finished before.

    Raises:
        ConfigError: As `check_before`, or if the phase was begun with another
            configuration.
    """
    check_before(config, workdir, phase)
    return workdir.start(phase, config, sections(config, phase))


def check_before(config: mlc.ConfigDict, workdir: Workdir, phase: str) -> None:
    """Raises ConfigError if what a phase builds on is missing or was changed since."""
    refuse_changed(workdir, looks_at_images=not config.data.shards)
    phases = list(SECTIONS)
    before = phases[: phases.index(phase)]
    workdir.require(*(name for name in before if uses(config, name)))


def sections(config: mlc.ConfigDict, phase: str) -> tuple[str, ...]:
    """The parts of the configuration that decide what a phase makes."""
    unread: set[str] = set()
    if phase == "warmup" and not config.similarity.select:
        unread |= {"similarity", "points"}
    if phase in ("generate", "evaluate") and not trains_generator(config):
        unread |= {"labels", "loss", "train", "points"}
        if not needs_warmup(config):
            unread |= {"warmup"} if uses_generator(config) else {"warmup", "decoder"}
    return tuple(name for name in SECTIONS[phase] if name not in unread)
