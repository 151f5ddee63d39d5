"""What the similarity extractor finds in objects, and their true masks beside it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import jax
import ml_collections as mlc
import numpy as np

from exits_jax.batch import Batch
from exits_jax.data.batches import label_batches
from exits_jax.data.crops import Window, crop_image
from exits_jax.data.masks import decode_mask
from exits_jax.data.records import AnnotationError, Instance, fault
from exits_jax.data.table import Instances
from exits_jax.labeling.model_source import walk_encoder
from exits_jax.run.extractor import extractor
from exits_jax.run.from_config import (
    crop_options,
    extractor_graph,
    image_stats,
    point_options,
    selected,
    uses_extractor,
    uses_stored_labels,
    uses_walk,
    walk_options,
)
from exits_jax.run.workdir import Workdir
from exits_jax.train.predict import walk_of
from exits_jax.train.progress import tracked
from exits_jax.train.sharding import host_copy
from exits_jax.train.step import batch_points, retrieve

BATCH = 16
Find = Callable[[Batch], Mapping[str, Any]]
POINT_SHARES = (
    "seeds_on_object",
    "fg_precision",
    "bg_precision",
    "fg_coverage",
    "bg_coverage",
    "empty_crops",
)


def finder(config: mlc.ConfigDict, workdir: Workdir) -> Find | None:
    """What the point retrieval finds in a batch of crops; None without an extractor.

    To load the extractor takes all processes of a run, to look with it one alone.

    Returns:
        A compiled function from a batch of crops, of any number of rows, to its point
        sets and their scores, each [b, p].
    """
    if not uses_extractor(config):
        if uses_walk(config) or uses_stored_labels(config):
            return _walk_finder(config, workdir)
        return None
    choice = selected(config, workdir)
    look = partial(
        retrieve,
        extractor_graph(config),
        options=point_options(config, choice),
        stats=image_stats(config),
        patch_size=config.model.patch_size,
    )

    @jax.jit
    def find(params, batch):
        initial, pseudo = look(params, batch)
        return {
            "seeds": initial.fg,
            "unlabeled": initial.unlabeled,
            "margin": pseudo.margin,
            "fg": pseudo.fg,
            "bg": pseudo.bg,
        }

    return partial(find, jax.device_put(host_copy(extractor(config, workdir))))


def _walk_finder(config: mlc.ConfigDict, workdir: Workdir) -> Find:
    """What the walk is sure of; its margin is the probability over one half."""
    follow = partial(
        walk_of,
        extractor_graph(config),
        stats=image_stats(config),
        walk=walk_options(config),
    )
    options, labels = point_options(config, {}), config.labels

    @jax.jit
    def find(params, batch):
        found = follow(params, batch)
        flat = found.reshape(found.shape[0], -1)
        initial = batch_points(
            batch, options=options, patch_size=config.model.patch_size
        )
        return {
            "seeds": initial.fg,
            "unlabeled": initial.unlabeled,
            "margin": flat - 0.5,
            "fg": initial.unlabeled & (flat >= labels.fg_probability),
            "bg": initial.unlabeled & (flat <= labels.bg_probability),
        }

    return partial(find, jax.device_put(walk_encoder(config, workdir)))


def look_at(
    config: mlc.ConfigDict, find: Find | None, chosen: Instances, **shown: str
) -> list[tuple[Instance, dict[str, np.ndarray]]]:
    """Objects with their crop and, for EXITS, what the point retrieval found in it.

    Args:
        config: The whole configuration.
        find: Of `finder`.
        chosen: The objects. With `data.on_bad=skip` those whose image cannot be read
            any more are left out.
        **shown: Name, and what it begins with, for `tracked`.
    """
    side = config.crop.size // config.model.patch_size
    found: list[tuple[Instance, dict[str, np.ndarray]]] = []
    skips = config.data.on_bad == "skip"
    batches = label_batches(
        chosen, crop_options(config), batch=BATCH, skip_unreadable=skips
    )
    total = -(-len(chosen) // BATCH)
    for rows in tracked(batches, total=total, unit="batch", warm_up=1, **shown):
        arrays = cast(dict[str, np.ndarray], rows)
        if find is not None:
            for name, points in find(rows).items():
                arrays[name] = np.asarray(points).reshape(-1, side, side)
        for row in np.flatnonzero(rows["valid"]).tolist():
            item = chosen[int(rows["index"][row])]
            found.append((item, {name: array[row] for name, array in arrays.items()}))
    return found


def true_mask_of(truth: Mapping[Any, Any], item: Instance) -> np.ndarray | None:
    """The object's true mask, bool [h, w]; None if there is none that can be read."""
    try:
        return decode_mask(truth[item.annotation_id], *item.image_size)
    except (KeyError, AnnotationError):
        return None


def pseudo_mask_of(pseudo: Mapping[Any, Any], item: Instance) -> np.ndarray:
    """The object's pseudo mask, bool [h, w]; empty if it has none.

    Raises:
        AnnotationError: It is not as `generate` writes masks: somebody changed it.
    """
    if item.annotation_id not in pseudo:
        return np.zeros(item.image_size, bool)
    try:
        return decode_mask(pseudo[item.annotation_id], *item.image_size)
    except AnnotationError as error:
        problem = error.problems[0]
        raise fault(
            problem.code,
            f"The pseudo mask of annotation {item.annotation_id!r:.80} cannot be used: "
            f"{problem.message} Make the masks again with --redo=generate.",
        ) from error


def crop_mask(mask: np.ndarray, window: Window, size: int) -> np.ndarray:
    """A mask of the image [h, w] as one of the crop [size, size]; both bool."""
    pixels = np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2)
    return crop_image(pixels, window, size)[..., 0] > 127


def point_quality(
    config: mlc.ConfigDict,
    find: Find | None,
    objects: Instances,
    truth: Mapping[Any, Any],
) -> dict[str, float]:
    """How right the points are, on crops with the test margins.

    A cell belongs to the object if its true mask covers more than half of it.

    Returns:
        Share of seeds on the object; precision of the pseudo foreground and background;
        share of the box's cells that they cover; share of crops without any; number
        of crops, which leaves out objects without points or a readable true mask.
        Empty for methods without an extractor.
    """
    if find is None or not objects:
        return {}
    side = config.crop.size // config.model.patch_size
    counts = np.zeros(9)
    name = "checking points"
    looked = look_at(config, find, objects, name=name, doing="compiling")
    for item, seen in looked:
        true_mask = true_mask_of(truth, item)
        if true_mask is None or not seen["has_points"]:
            continue
        window = Window(*(int(edge) for edge in seen["window"]))
        mask = crop_mask(true_mask, window, config.crop.size)
        patch = config.model.patch_size
        is_object = mask.reshape(side, patch, side, patch).mean(axis=(1, 3)) > 0.5
        seeds, fg, bg = seen["seeds"], seen["fg"], seen["bg"]
        counts += (
            (seeds & is_object).sum(),
            seeds.sum(),
            (fg & is_object).sum(),
            fg.sum(),
            (bg & ~is_object).sum(),
            bg.sum(),
            seen["unlabeled"].sum(),
            not (fg.any() or bg.any()),
            1,
        )
    share = lambda part, whole: float(part / whole) if whole else 0.0
    on_seeds, seeds, right_fg, fg, right_bg, bg, in_box, empty, crops = counts
    shares = (
        share(on_seeds, seeds),
        share(right_fg, fg),
        share(right_bg, bg),
        share(fg, in_box),
        share(bg, in_box),
        share(empty, crops),
    )
    return dict(zip(POINT_SHARES, shares, strict=True)) | {"crops": int(crops)}


def points_in_words(points: Mapping[str, float], *, are_learnt: bool) -> str:
    """What `point_quality` found, as a legend of its numbers."""
    whose = "the training learns from" if are_learnt else "the walk is sure of"
    seeds, right_fg, right_bg, fg, bg, empty = (
        f"{100 * points[name]:5.1f} %" for name in POINT_SHARES
    )
    return (
        f"points that {whose}, against {points['crops']} true masks:\n"
        f"  {seeds} of the clicks, moved inwards, lie on the object\n"
        f"  {right_fg} of the points taken for object are on it ({fg.strip()} of the "
        "box is taken so)\n"
        f"  {right_bg} of the points taken for background are off the object "
        f"({bg.strip()} of the box)\n"
        f"  {empty} of the objects got no point but their clicks"
    )
