"""Phase import: an annotation file of another tool to the COCO JSON of `prepare`."""

import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import ml_collections as mlc

from exits_jax.data.records import AnnotationError, TooManySkipped
from exits_jax.importers import kinds
from exits_jax.importers.items import Items
from exits_jax.importers.write import Summary, report_path, write_items
from exits_jax.run.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)
# Left out as they should be: no submitted annotation, no single object, no object.
_BY_RULE = ("E218", "E219", "E220", "E221")
_PROGRESS_EVERY = 1_000_000


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes `imported.json`, or `imports.out`, and its report beside it.

    Raises:
        Exception: As `import_file`.
    """
    output = Path(config.imports.out or workdir / "imported.json")
    summary = import_file(config, output)
    command = next_command(sys.argv[1:], config, summary, workdir)
    _logger.info("next:\n  %s", command)


def import_file(config: mlc.ConfigDict, output: Path) -> Summary:
    """Writes a COCO JSON from `imports.source`, and its report beside it.

    It is done anew each time. Both files are there before anything is complained of;
    without an object, the report alone.

    Raises:
        ConfigError: A field is missing or makes no sense.
        FileNotFoundError: There is no such source or image folder.
        TooManySkipped: More than `data.max_skip_fraction` of the records were rejected.
        AnnotationError: The source cannot be read, or no object could be imported.
    """
    options = config.imports
    kind = _checked_kind(config)
    source, images = Path(options.source), Path(config.data.images)
    if not source.exists():
        raise FileNotFoundError(f"imports.source: {source} does not exist.")
    if output.is_dir():
        raise ConfigError(f"imports.out: {output} is a folder; name a JSON file.")
    for file in (output, report_path(output)):
        if file.exists() and not file.is_file():
            raise ConfigError(f"imports.out: {file} is no regular file; name another.")
    if source.resolve() in (output.resolve(), report_path(output).resolve()):
        raise ConfigError(f"imports.out: {output} would overwrite the source {source}.")
    asked = kinds.Options(
        images=str(images),
        class_names=options.class_names or None,
        keep_group_of=options.keep_group_of,
        keep_depictions=options.keep_depictions,
    )
    summary = write_items(
        _Items(kind, source, asked),
        output,
        images,
        categories=_category_names(options.categories),
        follow_links=config.data.follow_links,
    )
    _tell(summary)
    counts = summary.counts
    if not counts["objects"]:
        older = "is left as it was" if output.exists() else "is not written"
        where = f"{summary.folder.text}\n" if not summary.folder.found else ""
        raise AnnotationError(
            f"{where}No object of {source} could be imported: of {counts['records']} "
            f"records {counts['rejected']} were rejected. {_examples(summary)}"
            f"Every one is in {summary.report}; {output} {older}."
        )
    if summary.folder.elsewhere:
        _logger.warning("%s", summary.folder.text)
    if counts["box_only"] == counts["objects"]:
        if warning := kinds.box_only_warning(kind):
            _logger.warning("%s", warning)
    limit = config.data.max_skip_fraction
    by_rule = sum(summary.rejected.get(code, (0, ""))[0] for code in _BY_RULE)
    if counts["rejected"] - by_rule > limit * (counts["records"] - by_rule):
        raise TooManySkipped(
            f"{counts['rejected']} of {counts['records']} records of {source} were "
            f"rejected, more than data.max_skip_fraction = {limit}. "
            f"{_examples(summary)}The others are in {summary.output}, the reasons in "
            f"{summary.report}."
        )
    return summary


def _checked_kind(config: mlc.ConfigDict) -> str:
    options = config.imports
    try:
        if options.kind:
            kinds.find(options.kind)
    except kinds.UnknownKind as error:
        raise ConfigError(f"imports.kind: {error}") from error
    fields = {
        "imports.kind": options.kind,
        "imports.source": options.source,
        "data.images": config.data.images,
    }
    missing = [name for name, value in fields.items() if not value]
    if missing:
        flags = " ".join(f"--config.{name}=..." for name in missing)
        listed = "\n".join(f"  {name}: {kind[1]}" for name, kind in kinds.KINDS.items())
        raise ConfigError(f"The phase import needs {flags}\nKnown kinds:\n{listed}")
    return options.kind


def _category_names(path: str) -> list[str] | None:
    if not path:
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"imports.categories: {path}: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        fault = f"has {twice[0]!r:.80} twice" if twice else "has no name"
        raise ConfigError(
            f"imports.categories: {path} {fault}; expected one name per line, each "
            "once."
        )
    return names


@dataclasses.dataclass(frozen=True)
class _Items:
    """The items of a source, which can be read again; tells of each million."""

    kind: str
    source: Path
    options: kinds.Options

    def __iter__(self) -> Items:
        found = kinds.read(self.kind, self.source, self.options)
        for number, item in enumerate(found, 1):
            yield item
            if number % _PROGRESS_EVERY == 0:
                _logger.info("import: %d million records", number // _PROGRESS_EVERY)


def _tell(summary: Summary) -> None:
    counts = summary.counts
    rows = {
        "records": counts["records"],
        "objects with clicks": counts["objects"] - counts["box_only"],
        "objects with a box alone": counts["box_only"],
        "rejected": counts["rejected"],
        "images": counts["images"],
    }
    for name, value in rows.items():
        _logger.info("%-26s%10d", name, value)
    for name, count in sorted(summary.marks.items()):
        _logger.info("  of the objects, %s: %d", name, count)
    for title, notes in (("rejected", summary.rejected), ("remark", summary.remarks)):
        for code, (count, message) in sorted(notes.items()):
            _logger.info("  %s %s, %d times, first: %s", title, code, count, message)
    if counts["objects"]:
        _logger.info("written: %s", summary.output)
    _logger.info("report: %s", summary.report)


def _examples(summary: Summary) -> str:
    lines = [
        f"  {code} ({count}): {message}"
        for code, (count, message) in sorted(summary.rejected.items())
    ]
    return "\n".join(["For example:", *lines, ""]) if lines else ""


def next_command(
    given: Sequence[str], config: mlc.ConfigDict, summary: Summary, workdir: Workdir
) -> str:
    """The command that prepares what was imported, with the configuration as given.

    Args:
        given: The flags of the import. Those of other sections hold for the next phase
            too; without a configuration among them, `custom` is named.
        config: The configuration.
        summary: Where the annotations are.
        workdir: The folder of the run.
    """
    ours = {
        "config.data.train": summary.output,
        "config.data.images": config.data.images,
    }
    kept = {
        name: value
        for name, value in _config_flags(given).items()
        if name not in ours and not name.startswith("config.import")
    }
    flags = {"config": kept.pop("config", "custom"), "workdir": workdir.path, **ours}
    words = [f"--{name}={value}" for name, value in (flags | kept).items()]
    return shlex.join(["exits-jax", "prepare", *words])


def _config_flags(given: Sequence[str]) -> dict[str, str]:
    """Values of --config and --config.a.b, written with or without a "="."""
    found = {}
    for place, word in enumerate(given):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and (name == "config" or name.startswith("config.")):
            found[name] = value if equals else "".join(given[place + 1 : place + 2])
    return found
