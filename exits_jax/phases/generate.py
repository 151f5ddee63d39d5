"""Phase generate: one mask per annotated object, as COCO JSON (Sec. 3.3).

The objects of a split are cut into parts of whole batches, and part k belongs to
process k % number of processes. Each process labels its parts alone and writes a file
for each; a restart, with any number of processes, keeps the files that are there. At
the end the first process merges them.
"""

import itertools
import logging
from contextlib import closing
from typing import Any

import jax
import ml_collections as mlc
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

import exits_jax
from exits_jax.data.coco_file import CocoFile
from exits_jax.data.table import Instances
from exits_jax.labeling.check_walk import check_walk
from exits_jax.labeling.label import Models, label_objects
from exits_jax.labeling.merge import merge
from exits_jax.labeling.model_source import Model, digest_of_model, of_run, on_devices
from exits_jax.labeling.part_files import (
    Parts,
    find_kept,
    part_size,
    remove_drafts,
    remove_parts,
    write_part,
)
from exits_jax.run.fingerprints import digest_of_folder, fields_of_masks
from exits_jax.run.image_names import read_source
from exits_jax.run.phase_order import begin
from exits_jax.run.prepared import columns_folder, instances, read_problems
from exits_jax.run.workdir import Workdir, environment
from exits_jax.train.progress import Progress
from exits_jax.train.sharding import make_mesh

_logger = logging.getLogger(__name__)


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `pseudo_masks.json` for the training split, `val/...` for the other.

    Raises:
        ConfigError: If part files of an earlier run were made with other settings, or
            are broken.
        Damaged: If what `prepare` wrote is not there any more as it was.
        TooManySkipped: If the images of too many objects cannot be read any more.
    """
    if not begin(config, workdir, "generate"):
        return
    _refuse_damaged(config, workdir)
    mesh = make_mesh(devices=jax.local_devices())
    model = of_run(config, workdir)
    models = on_devices(config, model, mesh)
    decided_by = fields_of_masks(config)
    decided_by["parameters"] = digest_of_model(model)
    finished = []
    for split in workdir.facts("prepare")["sources"]:
        if split not in config.generate.splits:
            continue
        objects = instances(config, workdir, split)
        if model.encoder is not None and not finished:
            check_walk(config, model.encoder, objects)
        prepared = digest_of_folder(columns_folder(workdir, split))
        parts = Parts(
            folder=workdir / "parts",
            split=split,
            num_objects=len(objects),
            size=part_size(config),
            decided_by={**decided_by, "prepared objects": prepared},
        )
        make_parts(
            config,
            mesh,
            models,
            objects,
            parts,
            process=jax.process_index(),
            num_processes=jax.process_count(),
        )
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"masks of {split} are made")
        if jax.process_index() == 0:
            source = read_source(workdir, split)
            _merge(config, workdir, parts, source, objects.position, model)
        finished.append(parts)
    workdir.finish("generate")
    if jax.process_index() == 0:  # only now: a restart makes no split a second time
        for parts in finished:
            remove_parts(parts)


def _refuse_damaged(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Says before hours of labelling what could not be read after them."""
    ends = ("_columns", "_names.json", "_skipped.json")
    for split in config.generate.splits:
        names = [f"annotations/{split}{end}" for end in ends]
        workdir.refuse_damaged("prepare", *names)


def make_parts(
    config: mlc.ConfigDict,
    mesh: Mesh,
    models: Models,
    objects: Instances,
    parts: Parts,
    *,
    process: int,
    num_processes: int,
) -> None:
    """Labels what a process has to and no earlier run has; waits for no other process.

    Args:
        config: The whole configuration.
        mesh: Devices of the process alone.
        models: What makes the masks, on every device of the mesh.
        objects: All objects of the split.
        parts: How they are cut into files.
        process: Number of the process.
        num_processes: How many share the parts; may be more than there are.

    Raises:
        ConfigError: If an earlier run left a file that is not one of these parts.
    """
    name = f"generate {parts.split}"
    remove_drafts(parts, process, num_processes)
    mine = parts.of_process(process, num_processes)
    kept = find_kept(parts, mine)
    if kept:
        text = "%s: %d of %d parts were made before and are kept"
        _logger.info(text, name, len(kept), parts.num_parts)
    missing = [part for part in mine if part not in kept]
    if not missing:
        return
    blocks = [parts.rows(part) for part in missing]
    total = sum(len(parts.rows(part)) for part in mine)
    todo = sum(map(len, blocks))
    progress = Progress(name, total=total, unit="mask", initial=total - todo, warm_up=1)
    labeled = label_objects(
        config, mesh, models, objects, blocks, on_start=progress.advance
    )
    with progress, closing(labeled):
        progress.doing("compiling")
        for part, block in zip(missing, blocks):
            write_part(parts, part, itertools.islice(labeled, len(block)))


def _merge(
    config: mlc.ConfigDict,
    workdir: Workdir,
    parts: Parts,
    source: CocoFile,
    positions: np.ndarray,
    model: Model,
) -> None:
    """Merges the parts of a split into the folder where its masks belong."""
    data = config.data
    merge(
        workdir.path if parts.split == "train" else workdir / parts.split,
        source,
        parts,
        positions,
        read_problems(workdir, parts.split),
        provenance_of_masks(config, model),
        max_unreadable=0.0 if data.on_bad == "error" else data.max_skip_fraction,
    )


def provenance_of_masks(config: mlc.ConfigDict, model: Model) -> dict[str, Any]:
    """Where masks come from, for the JSON's info.

    Args:
        config: What they were made with.
        model: What made them.
    """
    facts = {"model": config.generate.model} if config.generate.model else {}
    return {
        "version": exits_jax.__version__,
        "commit": environment()["commit"],
        "mask_source": config.generate.source,
        "mask_threshold": config.generate.threshold,
        "points_source": config.data.points,
        **facts,
        **model.facts,
    }
