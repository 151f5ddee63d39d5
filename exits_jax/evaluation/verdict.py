"""Masks that are not good yet: a sentence that says so, and what usually helps."""

from collections.abc import Mapping

import ml_collections as mlc

from exits_jax.evaluation.iou import Summary
from exits_jax.run.from_config import uses_extractor, uses_generator

MANY = 0.2  # share of masks that fill their whole box: shapes were not learnt
FEW_SEEDS = 0.5  # share of the clicks on the object: are they where they should be?
FULL_THRESHOLD = 0.5
OCTAGON = "octagon through the clicks"


def verdict(
    config: mlc.ConfigDict,
    ours: Summary | None,
    floors: Mapping[str, Summary],
    *,
    covers_box: float,
    points: Mapping[str, float],
) -> str | None:
    """What is wrong with the masks and what usually helps; None if nothing is.

    Args:
        config: The whole configuration.
        ours: Summary of the masks; None without true ones.
        floors: Of masks that need no training, by name.
        covers_box: Share of the masks that fill their whole box.
        points: As `point_quality.point_quality` gives them.
    """
    faults = _faults(config, ours, floors, covers_box)
    if not faults:
        return None
    helps = "\n".join(f"  - {line}" for line in _advice(config, points))
    return f"{' '.join(faults)}\nWhat usually helps:\n{helps}"


def _faults(
    config: mlc.ConfigDict,
    ours: Summary | None,
    floors: Mapping[str, Summary],
    covers_box: float,
) -> list[str]:
    faults = []
    if ours is not None:
        as_good = {
            name: floor
            for name, floor in floors.items()
            if _miou(floor, "all") >= _miou(ours, "all")
        }
        if as_good:
            marks = _listed(as_good, "all")
            given = "boxes and clicks" if OCTAGON in as_good else "boxes"
            faults.append(
                f"The masks are not better than what the {given} give without any "
                f"training: mIoU {_miou(ours, 'all'):.1f} against {marks}."
            )
            if ours["separated"]["count"] and all(
                _miou(floor, "separated") < _miou(ours, "separated")
                for floor in as_good.values()
            ):
                faults.append(
                    f"On separated objects they are: {_miou(ours, 'separated'):.1f} "
                    f"against {_listed(as_good, 'separated')}."
                )
            elif OCTAGON in as_good:
                faults.append(
                    "The octagon is drawn without a look at the image: what the model "
                    "learnt from the images does not show in its masks."
                )
        if list(as_good) == ["GrabCut"] and config.data.scenes.num_train:
            faults.append(
                "GrabCut is hard to beat on drawn scenes, where colours alone tell "
                "objects from background."
            )
    if covers_box >= MANY:
        faults.append(
            f"{covers_box:.0%} of the masks fill their whole box: they show no shape."
        )
    return faults


def _advice(config: mlc.ConfigDict, points: Mapping[str, float]) -> list[str]:
    lines = []
    if points.get("seeds_on_object", 1.0) < FEW_SEEDS:
        lines.append(
            f"right clicks: only {points['seeds_on_object']:.0%} of them lie on the "
            "object; `exits-jax validate` draws them"
        )
    init = config.init
    if not (init.encoder or init.generator or config.pretrain.enabled):
        lines.append(
            "pre-trained weights, --config.init.encoder=FILE (docs/weights.md): this "
            "model began with random ones"
        )
    train = config.train
    if not uses_generator(config):
        lines.append(
            "a generator trained on what the walk finds: --config.generate.source="
            "generator, with --config.labels.stored=True (docs/quality.md)"
        )
    elif train.steps is None:
        lines.append(
            f"a longer training: --config.train.epochs (it was {train.epochs:g})"
        )
    else:
        lines.append(f"a longer training: --config.train.steps (it was {train.steps})")
    threshold = config.generate.threshold
    if threshold < FULL_THRESHOLD:
        lines.append(
            f"a higher --config.generate.threshold (it was {threshold:g}), such as "
            f"{FULL_THRESHOLD:g}: smaller masks, without any training"
        )
    if uses_extractor(config) and not config.similarity.select:
        lines.append(
            "layers and hops that suit the encoder: --config.similarity.select=True, "
            "with --redo=warmup"
        )
    lines.append(
        "a look at contact_sheet.png in the workdir: are the clicks, the scores and "
        "the points where they should be?"
    )
    return lines


def _miou(summary: Summary, group: str) -> float:
    """Mean over objects, in percent."""
    return 100 * (summary[group]["object_miou"] or 0.0)


def _listed(floors: Mapping[str, Summary], group: str) -> str:
    marks = [f"{_miou(floor, group):.1f} ({name})" for name, floor in floors.items()]
    *before, last = marks
    return f"{', '.join(before)} and {last}" if before else last
