"""Labels of the training objects, made once by the walk and kept in the workdir.

The objects are cut into parts of `generate.part_size`; part k belongs to process k %
number of processes, and a restart, with any number of them, keeps the parts that are
there. The first process puts them into one file that every later step, process and
worker maps into memory.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections as mlc
import numpy as np
from jax.experimental import multihost_utils

from exits_jax.batch import map_fields
from exits_jax.cli.fields import leaves
from exits_jax.data.batches import label_batches
from exits_jax.data.label_store import LabelStore
from exits_jax.data.table import Instances
from exits_jax.files.atomic import whole_path
from exits_jax.files.json_files import json_text
from exits_jax.files.seals import (
    Damaged,
    fault_of_file,
    read_sealed,
    seal_of,
    write_sealed,
)
from exits_jax.labeling.check_walk import check_walk
from exits_jax.labeling.device_memory import Pieces
from exits_jax.labeling.label import ROWS
from exits_jax.labeling.model_source import walk_encoder
from exits_jax.labeling.part_files import part_size
from exits_jax.labeling.plan import in_blocks
from exits_jax.run.fingerprints import digest_of_folder, digest_of_params
from exits_jax.run.from_config import (
    crop_options,
    dense_crf_of,
    extractor_graph,
    image_stats,
    uses_stored_labels,
    walk_options,
)
from exits_jax.run.prepared import columns_folder
from exits_jax.run.workdir import ConfigError, Workdir
from exits_jax.train.agreement import all_agree
from exits_jax.train.predict import refined_logits, walk_logits, walk_of
from exits_jax.train.progress import Progress
from exits_jax.train.sharding import make_mesh, replicate, shard_batch, split_rows

# Fields that decide labels and may be changed after a training.
_OF_LABELS = ("walk.", "dense_crf.", "generate.click_depth")
_AGAIN = "Bring back a copy of its folder, or remove it to have all labels made again."
_logger = logging.getLogger(__name__)


def stored_labels(
    config: mlc.ConfigDict, workdir: Workdir, objects: Instances
) -> LabelStore:
    """The labels of `objects`, made now as far as no earlier run has made them.

    Raises:
        ConfigError: If a training has begun on labels that were made in another way.
        Damaged: If labels that are there are not what was written.
    """
    encoder = walk_encoder(config, workdir)
    walk = walk_options(config)
    grid = config.crop.size // config.model.patch_size
    store = LabelStore(
        workdir / "labels" / "labels.npy", grid=grid, mask_grid=config.dense_crf.grid
    )
    key = {
        "prepared objects": digest_of_folder(columns_folder(workdir, "train")),
        "positions": hashlib.sha256(np.asarray(objects.position).tobytes()).hexdigest(),
        "encoder": digest_of_params([encoder]),
        "walk": [list(walk.layers), walk.feature_block, walk.options._asdict()],
        "dense_crf": config.dense_crf.to_dict(),
        "click_depth": config.generate.click_depth,
        "crop": [config.crop.size, config.crop.test_margin],
    }
    key = json.loads(json_text(key))
    folder = workdir / "labels"
    if _has_begun(workdir):
        _refuse_others(folder, key)  # every process, or those that wait would hang
    if jax.process_index() == 0:
        _begin(folder, key, _fields(config))
    _wait("labels are begun")
    if not (folder / "labels.npy").exists():
        check_walk(config, encoder, objects)
        _make_parts(config, folder / "parts", objects, encoder, walk)
        _wait("labels are made")
        if jax.process_index() == 0:
            _join_parts(folder, in_blocks(len(objects), part_size(config)))
        _wait("labels are joined")
    else:
        _refuse_damaged(folder / "labels.npy")
    return store


def say_other_labels(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Warns if a finished training learnt from labels that other values made.

    Other values of the walk and the CRF are no reason to refuse: masks are made again
    with them. The training stays what it is, though.
    """
    if not (uses_stored_labels(config) and workdir.is_finished("train")):
        return
    try:
        before = _made_by(workdir / "labels").get("fields", {})
    except Damaged:
        return  # nothing will be trained on them
    changed = [
        f"{name}: was {before[name]!r}, is {value!r}"
        for name, value in _fields(config).items()
        if name in before and before[name] != value
    ]
    if changed:
        _logger.warning(
            "The generator learnt from labels that other values made (%s). Masks are "
            "made with the new ones; --redo=train makes the labels again, too, and "
            "trains on them.",
            "; ".join(changed),
        )


def _refuse_damaged(path: Path) -> None:
    """Raises Damaged, in every process, if the labels are not what was written.

    The first process reads them, for all: they are the largest file of a run.
    """
    fault = None
    if jax.process_index() == 0:
        size = path.stat().st_size
        _logger.info("labels: reading %s (%.1f GB) to check it", path, size / 1e9)
        fault = _fault(path)
    if not all_agree(fault is None):
        fault = fault or "is not what was written, as the first process says"
        raise Damaged(f"{path} {fault}. {_AGAIN}")


def _has_begun(workdir: Workdir) -> bool:
    """Whether a training that is not finished has saved a state."""
    saved = workdir / "checkpoints" / "train"
    return not workdir.is_finished("train") and any(saved.glob("[0-9]*"))


def _made_by(folder: Path) -> dict[str, Any]:
    """The key of the labels in a folder; empty if there are none."""
    note = folder / "made_by.json"
    try:
        return read_sealed(note) if note.exists() else {}
    except Damaged as error:
        raise Damaged(f"{error} {_AGAIN}") from None


def _differing(before: dict[str, Any], key: dict[str, Any]) -> list[str]:
    """The names of a key that labels were made with other values of."""
    return [name for name in key if before.get(name) != key[name]]


def _fields(config: mlc.ConfigDict) -> dict[str, Any]:
    """The fields behind a key that may be changed after a training, by name."""
    everything = leaves(json.loads(config.to_json_best_effort()))
    return {name: value for name, value in everything if name.startswith(_OF_LABELS)}


def _refuse_others(folder: Path, key: dict[str, Any]) -> None:
    """Raises ConfigError if the labels that are there have another key."""
    before = _made_by(folder)
    differ = _differing(before, key) if before else []
    if differ:
        raise ConfigError(
            f"The training in {folder.parent} began on labels that other values made "
            f"(different: {', '.join(differ)}). Go on with the values of before, or "
            "train again with --redo=train."
        )


def _begin(folder: Path, key: dict[str, Any], fields: dict[str, Any]) -> None:
    """An empty folder, or the one of an earlier run with the same key."""
    try:
        if not _differing(_made_by(folder), key):
            return
    except Damaged:
        pass  # nothing was trained on them yet, or it was said before
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "parts").mkdir(parents=True)
    write_sealed(folder / "made_by.json", key | {"fields": fields})


def _make_parts(config, folder: Path, objects: Instances, encoder, walk) -> None:
    """Makes the parts of this process that are not there, or damaged."""
    mine = in_blocks(len(objects), part_size(config))[
        jax.process_index() :: jax.process_count()
    ]
    missing = [part for part in mine if _fault(_path(folder, part)) is not None]
    if not missing:
        return
    total, todo = (sum(map(len, parts)) for parts in (mine, missing))
    mesh = make_mesh(devices=jax.local_devices())
    label = Pieces(
        _labels_of(config, mesh, replicate(mesh, encoder), walk),
        num_rows=config.generate.batch_size,
        num_devices=mesh.size,
    )
    progress = Progress(
        "labels", total=total, unit="object", initial=total - todo, warm_up=1
    )
    with progress:
        progress.doing("compiling")
        for part in missing:
            made = _rows(config, label, objects.select(np.array(part)), progress)
            _save(_path(folder, part), np.concatenate(list(made)))


def _rows(config, label: Pieces, objects: Instances, progress: Progress):
    """Rows of labels, batch by batch; of images that cannot be read they are zeros.

    Raises:
        FloatingPointError: If the walk of an object is NaN.
    """
    batches = label_batches(
        objects,
        crop_options(config),
        batch=config.generate.batch_size,
        num_workers=config.data.num_workers,
        num_threads=config.data.num_threads,
        skip_unreadable=config.data.on_bad == "skip",
    )
    with contextlib.closing(batches):
        for rows in batches:
            found = label.finish(label.start(map_fields(np.asarray, rows, ROWS)))
            found, is_number = found[:, :-1], found[:, -1] > 0
            is_object = rows["index"] >= 0
            if (bad := rows["index"][is_object & rows["valid"] & ~is_number]).size:
                name = objects[int(bad[0])].annotation_id
                raise FloatingPointError(
                    f"Annotation {name!r:.80}: its walk is NaN, as the attention of "
                    "the encoder is. Its weights are not finite or too large for its "
                    "arithmetic: try model.dtype=float32, then another encoder."
                )
            found = found * rows["valid"][:, None]
            progress.advance(int(is_object.sum()))
            yield found[is_object]


def _labels_of(config: mlc.ConfigDict, mesh, encoder, walk):
    """A compiled function from rows to rows of the store and whether they are numbers.

    The last column is 0 where a probability is NaN, which bytes cannot tell.
    """
    follow = partial(
        walk_of,
        extractor_graph(config),
        stats=image_stats(config),
        walk=walk,
    )
    crf = dense_crf_of(config)

    @partial(jax.jit, out_shardings=split_rows(mesh))
    def label(params, batch):
        found = follow(params, batch)
        refined = refined_logits(
            walk_logits(found),
            batch,
            crf=crf,
            click_depth=config.generate.click_depth,
            cut=0.5,
        )
        flat = [x.reshape(x.shape[0], -1) for x in (found, jax.nn.sigmoid(refined))]
        flat = jnp.concatenate(flat, axis=1)
        is_number = ~jnp.isnan(flat).any(axis=1, keepdims=True)
        rows = jnp.rint(255 * flat).astype(jnp.uint8)
        return jnp.concatenate([rows, is_number.astype(jnp.uint8)], axis=1)

    return lambda rows: label(encoder, shard_batch(mesh, rows))


def _join_parts(folder: Path, parts: list[range]) -> None:
    """One file of all parts, whole or not at all."""
    paths = [_path(folder / "parts", part) for part in parts]
    width = np.load(paths[0], mmap_mode="r").shape[1]
    with whole_path(folder / "labels.npy") as draft:
        rows = np.lib.format.open_memmap(
            draft, mode="w+", dtype=np.uint8, shape=(parts[-1].stop, width)
        )
        for part, path in zip(parts, paths):
            rows[part.start : part.stop] = np.load(path, mmap_mode="r")
        rows.flush()
        write_sealed(_seal_file(folder / "labels.npy"), seal_of(draft))
    shutil.rmtree(folder / "parts")


def _path(folder: Path, part: range) -> Path:
    """Its file: one of another `generate.part_size` has another name."""
    return folder / f"{part.start:09d}-{part.stop:09d}.npy"


def _save(path: Path, rows: np.ndarray) -> None:
    with whole_path(path) as draft:
        with draft.open("wb") as file:
            np.save(file, rows)
        write_sealed(_seal_file(path), seal_of(draft))


def _seal_file(path: Path) -> Path:
    return path.with_suffix(".seal.json")


def _fault(path: Path) -> str | None:
    """Why an array is not what was written; those of before have no seal."""
    if not path.exists():
        return "is missing"
    try:
        return fault_of_file(path, read_sealed(_seal_file(path)))
    except FileNotFoundError:
        return None
    except Damaged as error:
        return f"has a seal that cannot be read: {error}"


def _wait(name: str) -> None:
    """Until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
