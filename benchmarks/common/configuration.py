"""The configuration of a benchmark: --config and --config.FIELD, as `exits-jax` has it.

The other flags of a benchmark are absl's.
"""

import sys
from functools import cache

import ml_collections as mlc
from absl import flags

from exits_jax.cli.config_files import load
from exits_jax.cli.overrides import override, split

_CONFIG = flags.DEFINE_string("config", None, "A configuration, by name or file.")


@cache
def given() -> mlc.ConfigDict:
    """What the command line asks for, once its flags are parsed.

    Raises:
        UsageError: If it makes no sense.
    """
    config = load(_CONFIG.value).config
    override(config, split(sys.argv[1:])[0])
    return config


def other_words() -> list[str]:
    """The command line without flags of single fields, for `absl.app.run`."""
    return split(sys.argv)[1]
