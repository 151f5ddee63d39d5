"""The length of a training, and all that moves with it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mmengine.config import Config

from exits_jax.stage2.errors import Stage2Error
from exits_jax.stage2.mmdet_config.nodes import nodes, type_name

_WARM_UPS = ("LinearLR", "ConstantLR", "QuadraticWarmupLR")
_SCALED = (*_WARM_UPS, "MultiStepLR", "StepLR", "CosineAnnealingLR", "PolyLR")
_WARM_UP_SHARE = 10  # at most a tenth of the iterations
_SAMPLERS = ("DefaultSampler", "InfiniteSampler")


class Length(NamedTuple):
    """Of a training."""

    total: int
    by_epoch: bool  # else iterations


def fill_schedule(config: Config, epochs: int | None, iterations: int | None) -> None:
    """Gives a config another length; see `fill`.

    Milestones of the learning rate keep their share of the training. A warm-up counted
    in iterations is cut to a tenth of them; with `epochs`, to the share that it had.

    Raises:
        Stage2Error: If both lengths or one below 1 are given, or the config counts
            something in a way that does not carry over.
    """
    hooks = config.setdefault("default_hooks", {})
    checkpoint = hooks.setdefault("checkpoint", {"type": "CheckpointHook"})
    checkpoint["max_keep_ckpts"] = 2
    new = _wanted(epochs, iterations)
    if new is None:
        return
    old = _length(config.get("train_cfg") or {})
    _check_hooks(config)
    config["param_scheduler"] = _rescaled(config.get("param_scheduler"), old, new)
    config["train_cfg"] = _loop(config.train_cfg, old, new)
    _fill_sampler(config.train_dataloader, old, new)
    checkpoint["by_epoch"] = new.by_epoch
    checkpoint["interval"] = 1 if new.by_epoch else max(1, new.total // 20)
    processor = config.get("log_processor") or {"type": "LogProcessor"}
    config["log_processor"] = {**processor, "by_epoch": new.by_epoch}
    if not new.by_epoch:
        logger = hooks.setdefault("logger", {"type": "LoggerHook"})
        logger["interval"] = max(1, min(logger.get("interval", 50), new.total // 10))


def _wanted(epochs: int | None, iterations: int | None) -> Length | None:
    if epochs is not None and iterations is not None:
        raise Stage2Error(f"{epochs} epochs and {iterations} iterations: choose one.")
    for name, number in (("epochs", epochs), ("iterations", iterations)):
        if number is not None and number < 1:
            raise Stage2Error(f"{name} is {number}; it must be at least 1.")
    if epochs is not None:
        return Length(epochs, by_epoch=True)
    return None if iterations is None else Length(iterations, by_epoch=False)


def _length(loop: Mapping[str, Any]) -> Length:
    for name, by_epoch in (("max_epochs", True), ("max_iters", False)):
        if loop.get(name):
            return Length(loop[name], by_epoch)
    raise Stage2Error(
        "The train_cfg of the config has neither max_epochs nor max_iters; its length "
        "cannot be changed."
    )


def _check_hooks(config: Config) -> None:
    for node in nodes(config.get("custom_hooks")):
        if any(name in node for name in ("switch_epoch", "num_last_epochs")):
            raise Stage2Error(
                f"The config's {type_name(node)} acts at a certain epoch. Change the "
                "length of the training in the config itself, and that epoch with it."
            )


def _rescaled(schedulers: Any, old: Length, new: Length) -> list[dict[str, Any]]:
    if isinstance(schedulers, Mapping):
        schedulers = [schedulers]
    scaled = []
    for each in schedulers or []:
        name = type_name(each)
        by_epoch = each.get("by_epoch", True)
        if name in _WARM_UPS and not by_epoch and not each.get("begin"):
            scaled.append({**each, "end": _warm_up(each["end"], old, new)})
        elif name in _SCALED and by_epoch == old.by_epoch:
            scaled.append(_stretched(each, old, new))
        else:
            unit = "epochs" if by_epoch else "iterations"
            raise Stage2Error(
                f"The config's {name or 'param_scheduler'} in {unit} cannot be moved "
                "to another length of training: change it in the config itself."
            )
    return [each for each in scaled if not _is_too_short(each)]


def _is_too_short(scheduler: Mapping[str, Any]) -> bool:
    """Whether a warm-up would end in its first step, and so never be lifted again."""
    if type_name(scheduler) not in _WARM_UPS or scheduler.get("convert_to_iter_based"):
        return False
    return scheduler["end"] - scheduler.get("begin", 0) < 2


def _warm_up(end: int, old: Length, new: Length) -> int:
    if not new.by_epoch:
        return min(end, new.total // _WARM_UP_SHARE)
    if not old.by_epoch:
        return end  # how long an epoch is, is not known here
    return min(end, round(end * new.total / old.total))


def _stretched(
    scheduler: Mapping[str, Any], old: Length, new: Length
) -> dict[str, Any]:
    def moved(place: int, lowest: int = 1) -> int:
        return max(lowest, round(place * new.total / old.total))

    scaled = {**scheduler, "by_epoch": new.by_epoch}
    if not new.by_epoch:
        scaled.pop("convert_to_iter_based", None)
    scaled["begin"] = moved(scheduler.get("begin", 0), lowest=0)
    for name in ("T_max", "step_size"):
        if name in scheduler:
            scaled[name] = moved(scheduler[name])
    if "end" in scheduler:
        scaled["end"] = max(moved(scheduler["end"]), scaled["begin"] + 1)
    if "milestones" in scheduler:
        # Those that meet count once, and each leaves something of the training.
        places = {moved(m) for m in scheduler["milestones"] if m < old.total}
        last = new.total - 1
        scaled["milestones"] = sorted({min(place, last) for place in places} - {0})
    return scaled


def _loop(loop: Mapping[str, Any], old: Length, new: Length) -> dict[str, Any]:
    if new.by_epoch:
        interval = loop.get("val_interval", 1) if old.by_epoch else 1
        name, kind = "max_epochs", "EpochBasedTrainLoop"
    else:
        interval = -(-new.total // 4)
        name, kind = "max_iters", "IterBasedTrainLoop"
    return {
        "type": loop.get("type", kind) if new.by_epoch == old.by_epoch else kind,
        name: new.total,
        "val_interval": min(interval, new.total),
    }


def _fill_sampler(loader: Any, old: Length, new: Length) -> None:
    """An infinite sampler would make an endless epoch."""
    sampler = loader.get("sampler") or {}
    if new.by_epoch != old.by_epoch and type_name(sampler) in _SAMPLERS:
        sampler["type"] = _SAMPLERS[0] if new.by_epoch else _SAMPLERS[1]
