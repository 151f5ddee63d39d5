"""The table of fields: which values make sense, and what a field decides.

Defaults, sources and a sentence on each field stand in `configs/base.py`. What else is
known of a field by itself stands here, and is read by all that asks: the check of a
configuration, the record of a phase, the digest of what decides a mask.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from exits_jax.data.annotations import ON_BAD
from exits_jax.data.extreme_points import MODES
from exits_jax.models.vit import INITS, REMAT
from exits_jax.ops.attention import WAYS
from exits_jax.ops.attention_choice import AUTO


class Values(NamedTuple):
    """The values that make sense, and how a message says it."""

    holds: Callable[[Any], bool]
    expected: str  # the end of a sentence that begins with field and value


class Field(NamedTuple):
    """What is known of a field, beside its default and its sentence."""

    values: Values | None = None  # None: any value of its type
    is_runtime: bool = False  # changes neither a number nor a file that is read later
    changes_masks: bool = True  # matters only in a section of `MASK_SECTIONS`


def one_of(*known: Any) -> Values:
    """One of some words or numbers."""
    return Values(
        lambda value: value in known, f"known are {', '.join(map(str, known))}"
    )


_MOST = 2**31 - 1  # of any number: what integers of the device hold


def _numbers(holds: Callable[[float], bool], expected: str) -> Values:
    """Finite numbers; None where the field may be without a value."""

    def fits(value: Any) -> bool:
        if value is None:
            return True
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and -_MOST <= value <= _MOST and holds(value)

    return Values(fits, expected)


def _at_least(least: int, most: int = _MOST) -> Values:
    expected = f"must be at least {least} and at most {most}"
    return _numbers(lambda value: least <= value <= most, expected)


def _all(values: Values) -> Values:
    """Each of several."""
    return Values(lambda many: all(map(values.holds, many)), f"each {values.expected}")


_ONE_UP, _ZERO_UP = _at_least(1), _at_least(0)
_SIZE = _at_least(1, 2**14)  # of what an array has several of: px, channels, rounds
_PARALLEL = _at_least(0, 2**10)
_POSITIVE = _numbers(lambda value: value > 0, f"must be positive and at most {_MOST}")
_SHARE = _numbers(lambda value: 0 <= value <= 1, "must lie in [0, 1]")
_INSIDE = _numbers(lambda value: 0 < value < 1, "must lie in (0, 1)")
_BELOW_ONE = _numbers(lambda value: 0 <= value < 1, "must lie in [0, 1)")
_FEW_PX = _numbers(lambda value: 0 <= value <= 50, "must lie in [0, 50]")
_ANY = _numbers(lambda value: True, f"must be a finite number of at most {_MOST}")
_SEED = Values(
    lambda value: type(value) is int and 0 <= value < 2**32,
    "must be at least 0 and below 2**32",
)
_STEM = one_of("patch", "conv")

METHODS = ("exits", "mil_crf")  # whose losses the generator learns by

FIELDS = {
    "workdir": Field(is_runtime=True),
    "seed": Field(_SEED),
    "batch_size": Field(_ONE_UP),
    "grad_accum": Field(_ONE_UP),
    "mesh.data": Field(_at_least(-1, 2**14)),
    "mesh.fsdp": Field(_SIZE),
    #
    "data.name": Field(one_of("custom", "voc", "coco", "lvis"), is_runtime=True),
    "data.points": Field(one_of(*MODES)),
    "data.on_bad": Field(one_of(*ON_BAD)),
    "data.max_skip_fraction": Field(_SHARE),
    "data.min_area_px": Field(_ZERO_UP),
    "data.min_side_px": Field(_ZERO_UP),
    "data.noise.amount": Field(_ZERO_UP),
    "data.scenes.num_train": Field(_ZERO_UP),
    "data.scenes.num_val": Field(_ZERO_UP),
    "data.num_workers": Field(_PARALLEL, is_runtime=True),
    "data.num_threads": Field(_PARALLEL, is_runtime=True),
    "data.cache_mb": Field(_ZERO_UP, is_runtime=True),
    "data.shards": Field(is_runtime=True),
    "data.shard_mb": Field(_ONE_UP, is_runtime=True),
    "data.shard_cache": Field(is_runtime=True),
    "data.read_retries": Field(_ZERO_UP, is_runtime=True),
    "data.stall_s": Field(_POSITIVE, is_runtime=True),
    #
    "crop.size": Field(_SIZE),
    "crop.train_margin": Field(_ZERO_UP, changes_masks=False),
    "crop.test_margin": Field(_ZERO_UP),
    "crop.flip_rate": Field(_SHARE, changes_masks=False),
    "crop.photometric": Field(changes_masks=False),
    "crop.reduced_decoding": Field(changes_masks=False),
    #
    "model.patch_size": Field(_SIZE),
    "model.depth": Field(_SIZE),
    "model.dim": Field(_SIZE),
    "model.heads": Field(_SIZE),
    "model.position_grid": Field(_SIZE),
    "model.position_offset": Field(_ANY),
    "model.dtype": Field(one_of("float32", "bfloat16")),
    "model.attention": Field(one_of(AUTO, *WAYS), is_runtime=True),
    "model.remat": Field(one_of(*REMAT), is_runtime=True, changes_masks=False),
    "model.scan": Field(is_runtime=True),
    "model.extractor_init": Field(one_of(*INITS)),
    "model.stem": Field(_STEM),
    "model.extractor_stem": Field(_STEM),
    "decoder.features": Field(_SIZE),
    "decoder.fixed_scale": Field(_POSITIVE),
    "decoder.upsample_before": Field(one_of(3, 4)),
    #
    "init.generator_from": Field(one_of("encoder", "pretrain", "warmup")),
    "init.image_mean": Field(_all(_ANY)),
    "init.image_std": Field(_all(_POSITIVE)),
    "optimizer.betas": Field(_all(_BELOW_ONE)),
    "optimizer.floor": Field(_SHARE),
    "optimizer.lr_per_sample": Field(_POSITIVE),
    "optimizer.weight_decay": Field(_ZERO_UP),
    #
    "pretrain.decoder_depth": Field(_ZERO_UP),
    "pretrain.decoder_dim": Field(_SIZE),
    "pretrain.decoder_heads": Field(_SIZE),
    "pretrain.mask_ratio": Field(_INSIDE),
    "train.start_steps": Field(_ZERO_UP),
    "train.start_lr": Field(_POSITIVE),
    "train.teacher_decay": Field(_SHARE),
    "train.log_every": Field(_ONE_UP, is_runtime=True),
    "train.checkpoint_every": Field(_ONE_UP, is_runtime=True),
    "train.keep_checkpoints": Field(_ONE_UP, is_runtime=True),
    "train.best_metric": Field(is_runtime=True),
    "train.keep_best": Field(_ONE_UP, is_runtime=True),
    "train.max_bad_steps": Field(_ZERO_UP, is_runtime=True),
    "train.strict_resume": Field(is_runtime=True),
    **{
        f"{run}.{name}": Field(values)
        for run in ("pretrain", "warmup", "train")
        for name, values in (
            ("epochs", _POSITIVE),
            ("steps", _POSITIVE),
            ("lr", _POSITIVE),
            ("ramp_up", _SHARE),
        )
    },
    #
    "similarity.layers": Field(_all(_SIZE)),
    "similarity.sinkhorn_rounds": Field(_SIZE),
    "similarity.max_empty": Field(_SHARE),
    "similarity.select_hops": Field(_all(_SIZE)),
    "points.walk": Field(one_of("hops", "converged")),
    "points.num_hops": Field(_SIZE),
    "points.blend": Field(_BELOW_ONE),
    "points.fg_threshold": Field(_ANY),
    "points.bg_threshold": Field(_ANY),
    "points.dropout_rate": Field(_SHARE),
    "points.inward_margin_px": Field(_ZERO_UP),
    "points.background": Field(one_of("outside", "centre")),
    "labels.fg_probability": Field(_SHARE),
    "labels.bg_probability": Field(_SHARE),
    "prompt.jitter": Field(_SHARE),
    "prompt.dropout": Field(_SHARE),
    "prompt.sigma": Field(_INSIDE),
    "loss.method": Field(one_of(*METHODS)),
    "loss.pooling": Field(one_of("bilinear", "area")),
    "loss.point": Field(_ZERO_UP),
    "loss.mil": Field(_ZERO_UP),
    "loss.baseline_mil": Field(_ZERO_UP),
    "loss.baseline_mil_ramp_steps": Field(_ZERO_UP),
    "loss.crf": Field(_ZERO_UP),
    "loss.crf_rounds": Field(_ZERO_UP),
    "loss.crf_ramp_steps": Field(_ZERO_UP),
    "loss.crf_colour_scale": Field(_POSITIVE),
    "loss.crf_image": Field(one_of("student", "clean")),
    "loss.mask": Field(_ZERO_UP),
    "loss.mask_exponent": Field(
        _numbers(lambda value: 0 < value <= 1, "must lie in (0, 1]")
    ),
    #
    "generate.source": Field(one_of("generator", "walk", "both")),
    "generate.model": Field(changes_masks=False),  # a digest of its parameters does
    "generate.checkpoint": Field(one_of("latest", "best"), changes_masks=False),
    "generate.weights": Field(one_of("student", "teacher", "both")),
    "generate.threshold": Field(_INSIDE),
    "generate.walk_weight": Field(_ANY),
    "generate.click_depth": Field(_SHARE),
    "generate.empty": Field(one_of("skip", "box")),
    "generate.splits": Field(changes_masks=False),
    "generate.batch_size": Field(_SIZE),
    "generate.part_size": Field(_ONE_UP, is_runtime=True, changes_masks=False),
    "walk.encoder": Field(one_of("came", "warmup")),
    "walk.layers": Field(_all(_SIZE)),
    "walk.num_hops": Field(_SIZE),
    "walk.neighbours": Field(_POSITIVE),
    "walk.disc_radius": Field(_POSITIVE),
    "walk.inward_margin": Field(_SHARE),
    "walk.depth_weight": Field(_ANY),
    "walk.cut": Field(_ANY),
    "walk.slope": Field(_POSITIVE),
    "walk.ridge_block": Field(_SIZE),
    "walk.ridge_rounds": Field(_ZERO_UP),
    "walk.ridge_shrinkage": Field(_POSITIVE),
    "walk.ridge_cut": Field(_ANY),
    "walk.ridge_keep": Field(_SHARE),
    "dense_crf.grid": Field(_SIZE),
    "dense_crf.rounds": Field(_SIZE),
    "dense_crf.colour_weight": Field(_ZERO_UP),
    "dense_crf.position_scale": Field(_POSITIVE),
    "dense_crf.colour_scale": Field(_POSITIVE),
    "dense_crf.smooth_weight": Field(_ZERO_UP),
    "dense_crf.smooth_scale": Field(_POSITIVE),
    #
    "evaluate.size_by": Field(one_of("box", "mask")),
    "evaluate.num_pictures": Field(_ZERO_UP),
    "evaluate.num_points": Field(_ZERO_UP),
    "export.min_score": Field(_SHARE),
    "export.tolerance_px": Field(_FEW_PX),
    "export.void_border_px": Field(_FEW_PX),
    "stage2.epochs": Field(_ONE_UP),
    "stage2.iterations": Field(_ONE_UP),
    "stage2.seed": Field(_SEED),
}

RUNTIME = frozenset(name for name, field in FIELDS.items() if field.is_runtime)

# Sections whose fields decide a mask once parameters and objects are given, but for
# those that say otherwise above; and fields of other sections that do so, too.
MASK_SECTIONS = ("crop", "model", "decoder", "generate", "walk", "dense_crf")
MASK_FIELDS = ("init.image_mean", "init.image_std", "similarity.sinkhorn_rounds")
PROMPT_FIELDS = ("prompt.walk", "prompt.sigma")  # likewise, if there are prompts


def decides_a_mask(name: str, *, prompts: bool) -> bool:
    """Whether a mask may depend on a field once parameters and objects are given.

    Args:
        name: Of the field, with its section.
        prompts: Whether the generator sees the clicks.
    """
    if name in FIELDS and not FIELDS[name].changes_masks:
        return False
    fields = MASK_FIELDS + (PROMPT_FIELDS if prompts else ())
    return name in fields or name.partition(".")[0] in MASK_SECTIONS


def faults_of_values(fields: dict[str, Any]) -> list[str]:
    """What is wrong with single values, a sentence each.

    Args:
        fields: Values by dotted name.
    """
    nul = [name for name, value in fields.items() if "\0" in _texts(value)]
    return [f"{name} holds a NUL, which no name of a file has." for name in nul] + [
        f"{name} = {fields[name]!r}: {field.values.expected}."
        for name, field in FIELDS.items()
        if field.values is not None
        and name in fields
        and not field.values.holds(fields[name])
    ]


def _texts(value: Any) -> str:
    """The texts of a field, one behind the other."""
    values = value if isinstance(value, tuple) else (value,)
    return "".join(text for text in values if isinstance(text, str))
