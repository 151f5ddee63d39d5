"""Phase train: the pseudo label generator (Sec. 3.2.2, 3.2.3)."""

import logging
from typing import Any

import ml_collections as mlc

from exits_jax.labeling.stored_labels import stored_labels
from exits_jax.models.params import Params, abstract_graph
from exits_jax.run.extractor import extractor, pretrained_encoder
from exits_jax.run.from_config import (
    crf_options,
    generator_builder,
    image_stats,
    loss_weights,
    point_options,
    prompt_noise,
    selected,
    training_sizes,
    uses_extractor,
    uses_stored_labels,
)
from exits_jax.run.phase_order import begin, uses
from exits_jax.run.prepared import training_instances
from exits_jax.run.starting_weights import (
    file_encoder,
    file_generator,
    load_params,
    provenance,
    random_params,
    with_encoder,
    with_prompt,
)
from exits_jax.run.training import (
    Run,
    labeler,
    peak_lr,
    steps_of,
    stored_labeler,
    train_run,
)
from exits_jax.run.workdir import Workdir
from exits_jax.train.objectives import (
    LossFn,
    box_objective,
    exits_objective,
    mil_objective,
)

_logger = logging.getLogger(__name__)


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Trains the generator on points and colours, or on boxes as the baseline does."""
    if not uses(config, "train"):
        return
    if not begin(config, workdir, "train"):
        return
    workdir.note("train", init=provenance(config))
    objects = training_instances(config, workdir)
    loss_fn, make_labels = generator_loss(config), None
    labels = None
    if uses_stored_labels(config):
        _logger.info(
            "train: labels are made once per object by the walk of section walk "
            "(walk.num_hops = %d); points.num_hops = %d and similarity.layers = %s "
            "are not used; labels.stored=False would use them.",
            config.walk.num_hops,
            config.points.num_hops,
            tuple(config.similarity.layers),
        )
        labels = stored_labels(config, workdir, objects)
        make_labels = stored_labeler(config, point_options(config, {}))
    elif config.loss.method == "exits":
        frozen = extractor(config, workdir) if uses_extractor(config) else {}
        choice = selected(config, workdir)
        if choice:
            _say_choice(config, choice)
        make_labels = labeler(config, frozen, point_options(config, choice))
    section = config.train
    params = generator_start(config, workdir)
    if section.start_steps:
        params = train_run(
            config,
            workdir,
            Run(
                name="start",
                num_steps=section.start_steps,
                lr=peak_lr(config, section.start_lr),
                ramp_up=section.ramp_up,
                with_teacher=False,
            ),
            params=params,
            loss_fn=mil_objective(
                abstract_graph(generator_builder(config, role="generator")),
                stats=image_stats(config),
                sizes=training_sizes(config),
            ),
            objects=objects,
        )
    train_run(
        config,
        workdir,
        Run(
            name="train",
            num_steps=steps_of(config, section, len(objects)),
            lr=peak_lr(config, section.lr),
            ramp_up=section.ramp_up,
            with_teacher=True,
        ),
        params=params,
        loss_fn=loss_fn,
        objects=objects,
        make_labels=make_labels,
        labels=labels,
    )
    workdir.finish("train")


def _say_choice(config: mlc.ConfigDict, choice: dict[str, Any]) -> None:
    _logger.info(
        "train: layers %s and %d hops, chosen after the warm-up (similarity.json). "
        "similarity.layers = %s and points.num_hops = %d are not used; "
        "similarity.select=False would use them.",
        tuple(choice["layers"]),
        choice["num_hops"],
        tuple(config.similarity.layers),
        config.points.num_hops,
    )


def generator_loss(config: mlc.ConfigDict) -> LossFn:
    """What the generator minimises: L_overall, or the losses of the baseline."""
    graph = abstract_graph(generator_builder(config, role="generator"))
    stats, weights, crf = image_stats(config), loss_weights(config), crf_options(config)
    sizes, noise = training_sizes(config), prompt_noise(config)
    if config.loss.method == "mil_crf":
        return box_objective(
            graph, weights=weights, crf=crf, stats=stats, sizes=sizes, noise=noise
        )
    return exits_objective(
        graph,
        weights=weights,
        crf=crf,
        stats=stats,
        pooling=config.loss.pooling,
        sizes=sizes,
        noise=noise,
    )


def generator_start(config: mlc.ConfigDict, workdir: Workdir) -> Params:
    """Parameters of the generator before its first step."""
    stem = config.model.stem
    params = random_params(config, generator_builder(config, role="generator"), salt=2)
    if config.init.generator:
        return file_generator(config)
    source = config.init.generator_from
    if source == "warmup":
        warm = load_params(config, workdir, "warmup", role="extractor")
        if stem == config.model.extractor_stem:  # decoder included
            return with_prompt(warm, params, name="the warm-up")
        return with_encoder(params, warm["encoder"], stem=stem, name="the warm-up")
    if source == "pretrain":
        encoder = pretrained_encoder(config, workdir)
        return with_encoder(params, encoder, stem=stem, name="the pre-trained encoder")
    if config.init.encoder:
        encoder, _ = file_encoder(config)
        return with_encoder(params, encoder, stem=stem, name=config.init.encoder)
    return params
