"""Phase warmup: the similarity extractor, box tightness alone (Sec. 3.2.1)."""

import ml_collections as mlc

from exits_jax.models.params import Params, abstract_graph
from exits_jax.phases.inputs import training_instances
from exits_jax.phases.options import (
    generator_builder,
    image_stats,
    needs_warmup,
    training_sizes,
    uses_extractor,
)
from exits_jax.phases.order import begin
from exits_jax.phases.pretrain import pretrained_encoder
from exits_jax.phases.runs import Run, peak_lr, steps_of, train_run
from exits_jax.phases.select import select_similarity
from exits_jax.phases.weights import (
    encoder_file,
    file_encoder,
    load_params,
    provenance,
    random_params,
    with_encoder,
)
from exits_jax.phases.workdir import Workdir
from exits_jax.train.objectives import mil_objective


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Trains the extractor with a throw-away decoder, then freezes it for good."""
    if not needs_warmup(config):
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
    if config.similarity.select and uses_extractor(config):
        select_similarity(config, workdir, params["encoder"], objects)
    workdir.finish("warmup")


def extractor_start(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """Parameters of the extractor (and its decoder) before the warm-up."""
    stem = config.model.extractor_stem
    build = generator_builder(config, role="extractor")
    params = random_params(config, build, salt=1)
    if config.pretrain.enabled:
        encoder = pretrained_encoder(config, workdir)
        return with_encoder(params, encoder, stem=stem, name="the pre-trained encoder")
    path = encoder_file(config, role="extractor")
    if path:
        encoder, _ = file_encoder(config, role="extractor")
        return with_encoder(params, encoder, stem=stem, name=path)
    return params


def extractor(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """The frozen encoder of the finished phase."""
    if not config.warmup.enabled:
        return extractor_start(config, workdir)["encoder"]
    return load_params(config, workdir, "warmup", role="extractor")["encoder"]
