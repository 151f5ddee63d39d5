"""Phase export: the pseudo masks in the format of another tool."""

import logging
from pathlib import Path

import ml_collections as mlc

from exits_jax.data.coco_file import CocoFile
from exits_jax.export.folders import FolderError, check_replaceable
from exits_jax.export.formats import KINDS, export
from exits_jax.export.masks import Options
from exits_jax.export.report import Report
from exits_jax.phases.mask_file import MaskFile
from exits_jax.phases.workdir import ConfigError, Workdir

_logger = logging.getLogger(__name__)


def run(config: mlc.ConfigDict, workdir: Workdir) -> None:
    """Writes the masks as `export.kind`, by default to `WORKDIR/export/<kind>`.

    It may be asked for again and again, with other values: it belongs to no run.

    Raises:
        ConfigError: If a field of `export` makes no sense or the folder holds
            something else.
        FileNotFoundError: If there are no masks yet.
    """
    _check(config)
    wanted = config.export
    path = Path(wanted.source or workdir / "pseudo_masks.json")
    out = Path(wanted.out or workdir / "export" / wanted.kind)
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no masks to export: {path} does not exist. Run "
            "`exits-jax generate` first, or name a file by export.source."
        )
    images = _image_folder(config, workdir)
    try:
        check_replaceable(out)  # before anything is read
        source = CocoFile.read(path)
        report = Report(wanted.kind, len(source.annotations))
        masks = MaskFile(
            source, report, path=path, images=images, min_score=wanted.min_score
        )
        options = Options(
            void_border_px=wanted.void_border_px,
            image_prefix=wanted.image_prefix,
            images=images,
        )
        export(masks, out, options, report)
    except FolderError as error:
        raise ConfigError(f"export.out: {error}") from error
    _logger.info("export %s: %s\n  %s", wanted.kind, out, report.summary())


def _check(config: mlc.ConfigDict) -> None:
    wanted = config.export
    if wanted.kind not in KINDS:
        known = ", ".join(KINDS)
        raise ConfigError(f"export.kind = {wanted.kind!r}: known are {known}.")
    if not 0 <= wanted.min_score <= 1:
        raise ConfigError(f"export.min_score = {wanted.min_score}: must lie in [0, 1].")
    if not 0 <= wanted.void_border_px <= 50:
        raise ConfigError(
            f"export.void_border_px = {wanted.void_border_px}: must lie in [0, 50]."
        )


def _image_folder(config: mlc.ConfigDict, workdir: Workdir) -> Path | None:
    """The images of the masks: of the training split, as far as it is known."""
    drawn = workdir.facts("prepare").get("images", {}).get("train", "")
    folder = Path(config.data.images or drawn or "")
    return folder if folder != Path() and folder.is_dir() else None
