"""Which phases a command has to do, and what is said as each of them begins."""

import logging
from collections.abc import Iterable

import ml_collections as mlc

from exits_jax.run.phase_order import SECTIONS, check_before, sections, uses
from exits_jax.run.workdir import Workdir

_logger = logging.getLogger(__name__)


def announce(
    config: mlc.ConfigDict, workdir: Workdir, phase: str, plan: Iterable[str]
) -> None:
    """Says which of the phases of a command begins, and how long it is.

    Args:
        config: The whole configuration.
        workdir: Where it runs.
        phase: What begins; nothing is said of one that is not among `SECTIONS`.
        plan: All phases of the command, in their order.

    Raises:
        ConfigError: If the phase cannot begin, see `phase_order.check_before`.
    """
    if phase not in SECTIONS:
        return
    if not uses(config, phase):
        _logger.info("phase %s: not used by this configuration", phase)
        return
    check_before(config, workdir, phase)
    counted = [name for name in plan if uses(config, name)]
    place = f"phase {counted.index(phase) + 1} of {len(counted)}: "
    is_outdated = workdir.is_outdated(phase, config, sections(config, phase))
    if workdir.is_finished(phase) and not is_outdated:
        _logger.info("%s%s: done before", place, phase)
    else:
        _logger.info(
            "%s%s", place, ", ".join([phase, *_length(config, workdir, phase)])
        )


def _length(config: mlc.ConfigDict, workdir: Workdir, phase: str) -> list[str]:
    """How much there is to do; nothing where that is not known."""
    if phase == "generate":
        counts = workdir.facts("prepare").get("counts", {})
        splits = [counts[name] for name in config.generate.splits if name in counts]
        return [f"{sum(split['objects'] for split in splits)} objects"]
    if phase not in ("pretrain", "warmup", "train"):
        return []
    section = config[phase]
    if phase == "warmup" and not section.enabled:
        return []
    before = f"{section.start_steps} + " if section.get("start_steps") else ""
    if section.steps is None:
        before = before.replace(" +", " steps +")
        return [f"{before}{section.epochs:g} epoch{'s' * (section.epochs != 1)}"]
    return [f"{before}{section.steps} steps"]
