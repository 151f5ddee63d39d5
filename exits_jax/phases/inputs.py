"""The objects that `prepare` let through."""

import ml_collections as mlc

from exits_jax.data.annotations import Instance, read_instances
from exits_jax.data.batches import trainable
from exits_jax.phases.workdir import ConfigError, Workdir


def instances(config: mlc.ConfigDict, workdir: Workdir, split: str) -> list[Instance]:
    """The objects that `prepare` let through, crowds left out."""
    found = read_instances(
        workdir / "annotations" / f"{split}.json",
        workdir.facts("prepare")["images"][split],
        on_bad="error",
    )
    return [item for item in found.instances if not item.is_crowd]


def training_instances(config: mlc.ConfigDict, workdir: Workdir) -> list[Instance]:
    """The objects large enough to learn from.

    Raises:
        ConfigError: If there are none.
    """
    everything = instances(config, workdir, "train")
    chosen = trainable(
        everything, min_area=config.data.min_area_px, min_side=config.data.min_side_px
    )
    if not chosen:
        raise ConfigError(
            f"None of the {len(everything)} objects in {config.data.train} has a box "
            f"of more than data.min_area_px = {config.data.min_area_px} px."
        )
    return chosen
