"""What a training run reads, and where it is saved."""

from collections.abc import Iterator

import jax
import ml_collections as mlc

from exits_jax.batch import Batch
from exits_jax.data.batches import train_batches
from exits_jax.data.label_store import LabelStore
from exits_jax.data.sample_order import batch_indices
from exits_jax.data.table import Instances
from exits_jax.run.from_config import crop_options
from exits_jax.run.workdir import Workdir
from exits_jax.train.checkpoints import Checkpoints, InputPosition
from exits_jax.train.feed import Input


def run_input(
    config: mlc.ConfigDict,
    objects: Instances,
    num_steps: int,
    labels: LabelStore | None = None,
) -> Input:
    """Shuffled crops of the objects, for a run of so many steps."""

    def open_at(start: int) -> Iterator[Batch]:
        return train_batches(
            objects,
            crop_options(config),
            seed=config.seed,
            global_batch=config.batch_size,
            start_step=start,
            num_steps=num_steps - start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            num_workers=config.data.num_workers,
            num_threads=config.data.num_threads,
            skip_unreadable=config.data.on_bad == "skip",
            labels=labels,
        )

    def ids_of_step(step: int) -> list:
        indices = batch_indices(
            len(objects), seed=config.seed, global_batch=config.batch_size, step=step
        )
        return [objects[int(index)].annotation_id for index in indices]

    return Input(
        open=open_at,
        position=InputPosition(0, config.batch_size, len(objects), config.seed),
        ids_of_step=ids_of_step,
        image_name=lambda index: objects.name(int(objects.image[index])),
        stall_s=config.data.stall_s,
    )


def run_checkpoints(config: mlc.ConfigDict, workdir: Workdir, run: str) -> Checkpoints:
    """The checkpoints of a run; the best by a metric are kept of the last run alone."""
    section = config.train
    return Checkpoints(
        workdir / "checkpoints" / run,
        keep=section.keep_checkpoints,
        best_metric=section.best_metric if run == "train" else "",
        keep_best=section.keep_best,
        strict=section.strict_resume,
    )
