"""Phase export: the pseudo masks in the format of another tool."""

import logging
from pathlib import Path

import ml_collections as mlc

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.image_folder import advise_on_folder, file_names
from exits_jax.exporters.folders import FolderError, check_replaceable
from exits_jax.exporters.formats import KINDS, OUTLINES, export
from exits_jax.exporters.mask_file import MaskFile
from exits_jax.exporters.masks import Options
from exits_jax.exporters.report import Report
from exits_jax.labeling.pseudo_masks import refuse_damaged
from exits_jax.run.fields import faults_of_values
from exits_jax.run.identity import image_folders
from exits_jax.run.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes the masks as `export.kind`, by default to `WORKDIR/export/<kind>`.

    It may be asked for again and again, with other values: it belongs to no run.

    Raises:
        ConfigError: If a field of `export` makes no sense or the folder holds
            something else.
        Damaged: If the masks of this run are not what `generate` wrote.
        FileNotFoundError: If there are no masks yet, or no folder `data.images`.
    """
    check_export(config)
    wanted = config.export
    path = Path(wanted.source or workdir / "pseudo_masks.json")
    out = Path(wanted.out or workdir / "export" / wanted.kind)
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no masks to export: {path} does not exist. Run "
            "`exits-jax generate` first, or name a file by export.source."
        )
    if not wanted.source and (workdir / "manifest.json").exists():
        refuse_damaged(workdir.path)
    images = _image_folder(config, workdir)
    try:
        check_replaceable(out)  # before anything is read
        source = CocoFile.read(path)
        _look_for_images(source, images)
        report = Report(wanted.kind, len(source.annotations))
        masks = MaskFile(
            source, report, path=path, images=images, min_score=wanted.min_score
        )
        options = Options(
            void_border_px=wanted.void_border_px,
            tolerance_px=wanted.tolerance_px,
            image_prefix=wanted.image_prefix,
            images=images,
        )
        export(masks, out, options, report)
    except FolderError as error:
        raise ConfigError(f"export.out: {error}") from error
    _logger.info("export %s: %s\n  %s", wanted.kind, out, report.summary())


def _look_for_images(source: CocoFile, folder: Path | None) -> None:
    """Says where the images are that links and paths should lead to.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if folder is None:
        return
    names = file_names(source.images, folder)
    advice = advise_on_folder(names, folder, field="data.images")
    if not folder.is_dir():
        raise FileNotFoundError(advice.text)
    if advice.elsewhere or not advice.found:
        _logger.warning("%s", advice.text)


def check_export(config: mlc.ConfigDict) -> None:
    """Raises ConfigError if a field of `export` makes no sense."""
    wanted = config.export
    if wanted.kind not in KINDS:
        known = ", ".join(KINDS)
        raise ConfigError(f"export.kind = {wanted.kind!r}: known are {known}.")
    faults = faults_of_values({f"export.{name}": wanted[name] for name in wanted})
    if faults:
        raise ConfigError("\n".join(faults))
    if wanted.tolerance_px and wanted.kind not in OUTLINES:
        raise ConfigError(
            f"export.tolerance_px = {wanted.tolerance_px}: {wanted.kind} holds masks, "
            f"not outlines. Formats with outlines are {', '.join(OUTLINES)}."
        )


def _image_folder(config: mlc.ConfigDict, workdir: Workdir) -> Path | None:
    """The images of the masks: of the training split, as far as it is known."""
    if config.data.images:
        return Path(config.data.images)
    drawn = image_folders(workdir).get("train")
    return drawn if drawn is not None and drawn.is_dir() else None
