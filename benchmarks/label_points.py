"""How right the points are in the crops that a training really sees.

python -m benchmarks.label_points --config=custom:cpu --workdir=RUN [--crops 2048]

Takes a work directory whose labels are stored, or whose extractor is there, draws crops
as its training does (random margins, not mirrored) and compares the points before
dropout with the true masks: a cell is object if its mask covers more than half of it.
"""

import jax
import numpy as np
from absl import app, flags
from absl import logging as absl_logging

from benchmarks.common.configuration import given, other_words
from exits_jax.data.batches import train_batches
from exits_jax.data.coco_file import ById, CocoFile
from exits_jax.data.crops import Window
from exits_jax.evaluation.point_quality import crop_mask, true_mask_of
from exits_jax.labeling.stored_labels import stored_labels
from exits_jax.run.extractor import extractor
from exits_jax.run.from_config import crop_options, point_options, uses_stored_labels
from exits_jax.run.identity import annotation_files
from exits_jax.run.prepared import training_instances
from exits_jax.run.training import labeler, stored_labeler
from exits_jax.run.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Overrides config.workdir.")
_CROPS = flags.DEFINE_integer("crops", 2048, "Crops to look at.")
flags.mark_flag_as_required("config")


def main(_) -> None:
    """Measures and prints."""
    absl_logging.set_verbosity(absl_logging.WARNING)
    config = given()
    workdir = Workdir(_WORKDIR.value or config.workdir)
    objects = training_instances(config, workdir)
    options = point_options(config, {})._replace(dropout_rate=0.0)
    labels = None
    if uses_stored_labels(config):
        labels = stored_labels(config, workdir, objects)
        label = stored_labeler(config, options)
    else:
        label = labeler(config, extractor(config, workdir), options)
    truth = ById(
        CocoFile.read(annotation_files(workdir)["train"]).annotations,
        "segmentation",
    )
    counts = np.zeros(5)
    batches = train_batches(
        objects,
        crop_options(config)._replace(photometric=None, flip_rate=0.0),
        seed=config.seed,
        global_batch=config.batch_size,
        start_step=0,
        num_steps=-(-_CROPS.value // config.batch_size),
        num_threads=config.data.num_threads,
        labels=labels,
    )
    for rows in batches:
        found = jax.device_get(label(rows)[0])
        for row in range(len(rows["index"])):
            counts += _judge(config, objects, truth, rows, found, row)
    right_fg, fg, right_bg, bg, in_box = counts
    print(f"object:     {right_fg / fg:6.1%} right, of {fg / in_box:6.1%} of the box")
    print(f"background: {right_bg / bg:6.1%} right, of {bg / in_box:6.1%} of the box")


def _judge(config, objects, truth, rows, found, row: int) -> np.ndarray:
    """Right and all points of the object, of the background, and cells in the box."""
    item = objects[int(rows["index"][row])]
    mask = true_mask_of(truth, item)
    if mask is None:
        return np.zeros(5)
    size, patch = config.crop.size, config.model.patch_size
    grid = size // patch
    window = Window(*(int(edge) for edge in rows["window"][row]))
    seen = crop_mask(mask, window, size)
    is_object = seen.reshape(grid, patch, grid, patch).mean(axis=(1, 3)) > 0.5
    target, known = found["target"][row] > 0, found["known"][row] > 0
    edges = np.arange(grid) * patch
    over = lambda low, high: (edges < high) & (edges + patch > low)
    box = rows["box"][row]
    inside = over(box[1], box[3])[:, None] & over(box[0], box[2])[None]
    fg, bg = known & target & inside, known & ~target & inside
    parts = (fg & is_object, fg, bg & ~is_object, bg, inside)
    return np.array([part.sum() for part in parts])


if __name__ == "__main__":
    app.run(main, argv=other_words())
