"""What a row computes: its configuration, and digests of what decides its phases."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections as mlc

from exits_jax.cli.fields import leaves
from exits_jax.cli.overrides import override
from exits_jax.cli.words import UsageError
from exits_jax.configs.ablations import ABLATIONS, TABLES, get_config
from exits_jax.files.words import did_you_mean
from exits_jax.run.fields import RUNTIME
from exits_jax.run.from_config import needs_warmup, uses_extractor
from exits_jax.run.phase_order import sections
from exits_jax.run.starting_weights import encoder_file

PLAIN = "table_5/all_points"  # the base as it is


class Row(NamedTuple):
    """One row on a base, with the flags that all rows have in common.

    Rows that make the same labels are run once, as the first of them, the owner: all
    but the name is the owner's.
    """

    name: str  # such as "table_6/dropout"
    owner: str  # such as "table_5/all_points"
    spec: str  # what stands behind --config=ablations:
    labels: str  # digest of what decides the pseudo masks and their evaluation
    shared: tuple[tuple[str, str], ...]  # early phases in turn, digest of each


def rows_of(
    tables: Sequence[str], *, base: str, values: Mapping[str, Any]
) -> dict[str, list[Row]]:
    """The rows of some tables.

    Args:
        tables: Names of tables.
        base: The configuration that is changed, as "custom:cpu".
        values: Fields that flags set in every row, as `read_overrides` read them.

    Raises:
        UsageError: If a table does not exist, or a flag overrides what one of its rows
            is about.
    """
    for table in tables:
        if table not in TABLES:
            hint = did_you_mean(table, TABLES)
            raise UsageError(
                f"Unknown table {table!r}.{hint} Known: {', '.join(TABLES)}."
            )
    found = _all_rows(base, values)
    wanted = {
        table: [found[f"{table}/{name}"] for name in TABLES[table].rows]
        for table in tables
    }
    for row in (row for rows in wanted.values() for row in rows):
        _refuse_overridden(row.name, values)
    return wanted


def read_overrides(base: str, flags_given: Sequence[str]) -> dict[str, Any]:
    """The values of flags `--config.FIELD=VALUE`, as `override` reads them.

    Raises:
        UsageError: If the base or a field does not exist, or a value does not fit.
    """
    try:
        config = get_config(f"{PLAIN}@{base}")
    except ValueError as error:
        raise UsageError(str(error)) from error
    return override(config, flags_given)


def resolve(spec: str, values: Mapping[str, Any]) -> mlc.ConfigDict:
    """The configuration of a row, with some fields set on top."""
    config = get_config(spec)
    config.update_from_flattened_dict(dict(values))
    return config


def digest_of(config: mlc.ConfigDict, names: Iterable[str], **more: Any) -> str:
    """A short digest of some sections, without the fields that change no result."""
    everything = json.loads(config.to_json_best_effort())
    chosen = leaves({name: everything[name] for name in names})
    fields = {key: value for key, value in chosen if key not in RUNTIME}
    text = json.dumps(fields | more, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _all_rows(base: str, values: Mapping[str, Any]) -> dict[str, Row]:
    """Every row there is, so that an owner does not depend on the tables asked for."""
    owners: dict[str, Row] = {}
    rows = {}
    for name in ABLATIONS:
        spec = f"{name}@{base}"
        config = resolve(spec, values)
        labels = _digest_of_labels(config)
        if labels not in owners:
            owners[labels] = Row(name, name, spec, labels, _shared(config))
        rows[name] = owners[labels]._replace(name=name)
    return rows


def _shared(config: mlc.ConfigDict) -> tuple[tuple[str, str], ...]:
    """The phases before the training, each with a digest of what decides it."""
    phases = ["prepare"]
    if config.pretrain.enabled:
        phases.append("pretrain")
    if needs_warmup(config):
        phases.append("warmup")
    # At its end the warm-up chooses layers and hops, if something will read the choice.
    chooses = config.similarity.select and uses_extractor(config)
    more = {"warmup": {"chooses": chooses}}
    return tuple(
        (phase, digest_of(config, sections(config, phase), **more.get(phase, {})))
        for phase in phases
    )


def _digest_of_labels(config: mlc.ConfigDict) -> str:
    """Of all that decides masks and evaluation; weights named twice count once."""
    config = config.copy_and_resolve_references()
    config.init.extractor = encoder_file(config, role="extractor")
    return digest_of(config, sections(config, "evaluate"))


def _refuse_overridden(name: str, values: Mapping[str, Any]) -> None:
    for field, value in ABLATIONS[name].changes.items():
        if values.get(field, value) != value:
            raise UsageError(
                f"--config.{field}={values[field]} overrides what {name} is about "
                f"({field} = {value!r}). Leave the flag out, or run other tables."
            )
