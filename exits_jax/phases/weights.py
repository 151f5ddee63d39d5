"""Where parameters come from: random numbers, a file or an earlier run."""

import jax
import ml_collections as mlc

from exits_jax.models.params import Params, init_params
from exits_jax.models.weights import check_fits, read_encoder
from exits_jax.phases.options import generator_builder
from exits_jax.phases.workdir import Workdir
from exits_jax.train.checkpoints import Checkpoints
from exits_jax.train.sharding import data_mesh, replicated


class WeightsError(ValueError):
    """A file of weights that cannot be used; the message names it."""


def random_params(config: mlc.ConfigDict, build, *, salt: int) -> Params:
    """Random parameters; `salt` keeps the models of one run apart."""
    return init_params(build, jax.random.fold_in(jax.random.key(config.seed), salt))


def file_encoder(config: mlc.ConfigDict) -> tuple[Params, dict[str, str]]:
    """Encoder of `init.encoder` in the shape the configuration asks for."""
    try:
        params, metadata = read_encoder(config.init.encoder)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    if not config.model.class_token and "class_token" in params:
        params = dict(params)
        params.pop("class_token")
        params["position_table"] = params["position_table"][1:]
    return params, metadata


def with_encoder(params: Params, encoder: Params, *, stem: str, name: str) -> Params:
    """A generator's parameters with the encoder replaced.

    Pre-trained encoders have the plain patch embedding, so a conv stem keeps its own
    random weights, as it does in the paper's baseline.

    Raises:
        WeightsError: With every parameter that does not fit.
    """
    if stem == "conv":
        encoder = {**encoder, "patch_embedding": params["encoder"]["patch_embedding"]}
    try:
        check_fits(encoder, params["encoder"], name=name)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return {**params, "encoder": encoder}


def load_params(
    config: mlc.ConfigDict, workdir: Workdir, run: str, *, role: str, which="params"
) -> Params:
    """Parameters of a finished run, on every device."""
    build = generator_builder(config, role=role)
    abstract = jax.eval_shape(lambda: init_params(build, jax.random.key(0)))
    sharding = replicated(data_mesh())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract
    )
    checkpoints = Checkpoints(workdir / "checkpoints" / run)
    params = checkpoints.restore_params(like, which=which)
    checkpoints.close()
    return params
