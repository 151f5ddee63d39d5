"""Phase warmup: the similarity extractor, box tightness alone (Sec. 3.2.1)."""

import ml_collections as mlc

from exits_jax.models.params import abstract_graph
from exits_jax.run.choose_similarity import select_similarity
from exits_jax.run.extractor import extractor_start
from exits_jax.run.from_config import (
    generator_builder,
    image_stats,
    training_sizes,
    uses_extractor,
)
from exits_jax.run.phase_order import begin, uses
from exits_jax.run.prepared import training_instances
from exits_jax.run.starting_weights import (
    provenance,
)
from exits_jax.run.training import Run, peak_lr, steps_of, train_run
from exits_jax.run.workdir import Workdir
from exits_jax.train.objectives import mil_objective


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Trains the extractor with a throw-away decoder, then freezes it for good."""
    if not uses(config, "warmup"):
        return
    if not begin(config, workdir, "warmup"):
        return
    workdir.note("warmup", init=provenance(config))
    objects = training_instances(config, workdir)
    params = extractor_start(config, workdir)
    section = config.warmup
    if section.enabled:
        build = generator_builder(config, role="extractor")
        params = train_run(
            config,
            workdir,
            Run(
                name="warmup",
                num_steps=steps_of(config, section, len(objects)),
                lr=peak_lr(config, section.lr),
                ramp_up=section.ramp_up,
                with_teacher=False,
            ),
            params=params,
            loss_fn=mil_objective(
                abstract_graph(build),
                stats=image_stats(config),
                sizes=training_sizes(config),
            ),
            objects=objects,
        )
    chosen = []
    if config.similarity.select and uses_extractor(config):
        if select_similarity(config, workdir, params["encoder"], objects):
            chosen = [workdir / "similarity.json"]
    workdir.finish("warmup", sealing=chosen)
