"""Items of any reader to our COCO JSON and a report, both written as they come.

Memory holds the images and the categories, never the annotations: those go to a
temporary file at once. The JSON and the report appear when everything is done. The
report vouches for the JSON (it has its checksum), so an older one is removed before
the JSON is put in its place, and the new one comes last: a JSON without a report is
what a crash between the two leaves behind. An import without any object has a report
and no JSON; one of an earlier import stays as it is.
"""

import contextlib
import gc
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from exits_jax.data.image_folder import FolderAdvice, advise_on_folder
from exits_jax.files.leftovers import remove_leftovers
from exits_jax.importers.image_table import Claims, ImageTable
from exits_jax.importers.items import Item
from exits_jax.importers.notes import Notes
from exits_jax.importers.record_writer import RecordWriter


class Summary(NamedTuple):
    """What became of an import."""

    output: Path  # written if there are objects
    report: Path
    counts: dict[str, int]  # records, objects, box_only, rejected, images
    rejected: dict[str, tuple[int, str]]  # how many per code, and the first message
    remarks: dict[str, tuple[int, str]]  # likewise, of objects that were kept
    marks: dict[str, int]  # how many objects carry each further field that is True
    folder: FolderAdvice  # how many of the images are where they should be


def report_path(output: str | Path) -> Path:
    """Where the report of an import lies."""
    output = Path(output)
    return output.with_name(f"{output.stem}_report.json")


def write_items(
    items: Iterable[Item],
    output: str | Path,
    images: str | Path,
    *,
    categories: Sequence[str] | None = None,
    follow_links: bool = False,
) -> Summary:
    """Writes a COCO instances JSON and its report.

    Every object that is written passes the checks of `read_instance`; every other one
    is in the report with its code. Without any object the report is all there is.

    Args:
        items: What a reader yields. They are gone through again where a file turns out
            to be that of two images; an iterator is therefore kept as a whole.
        output: The JSON; the report lies beside it, see `report_path`.
        images: The folder that file names are relative to.
        categories: All category names, ids from 1 in this order; None: names get ids in
            the order in which they first appear.
        follow_links: Allow links inside the image folder that lead out of it.

    Returns:
        Counts and examples; records == objects + rejected.

    Raises:
        ValueError: A category is named twice.
        FileNotFoundError: There is no such folder of images.
        AnnotationError: The reader cannot go on. Nothing is left behind then, or with
            any other exception, and files of an earlier import stay as they are.
    """
    output, report = Path(output), report_path(output)
    if not os.path.isdir(images):
        raise FileNotFoundError(advise_on_folder([], images).text)
    if categories is not None and len(set(categories)) < len(categories):
        raise ValueError("A category is named twice; names must be unique.")
    output.parent.mkdir(parents=True, exist_ok=True)
    for name in (output.name, report.name):
        remove_leftovers(output.parent, rf"\.{re.escape(name)}\.(\d+)")
    draft = output.with_name(f".{output.name}.{os.getpid()}")
    report_draft = report.with_name(f".{report.name}.{os.getpid()}")
    again = list(items) if isinstance(items, Iterator) else items
    known: dict[str, Claims] = {}
    try:
        while True:
            with Notes(output.parent) as notes:
                table = ImageTable(images, follow_links=follow_links, known=known)
                with draft.open("w", encoding="ascii") as file:
                    writer = RecordWriter(file, notes, table, categories)
                    with _rare_collections():
                        writer.write_all(again)
                    _flush(file)
                if not table.contested:
                    summary = _reported(output, draft, report_draft, writer, notes)
                    break
                known |= table.contested
        report.unlink(missing_ok=True)
        if summary.counts["objects"]:
            os.replace(draft, output)
        os.replace(report_draft, report)
    finally:
        draft.unlink(missing_ok=True)
        report_draft.unlink(missing_ok=True)
    return summary


def _reported(
    output: Path, draft: Path, report_draft: Path, writer: RecordWriter, notes: Notes
) -> Summary:
    """Writes the report of a draft."""
    with draft.open("rb") as written:
        checksum = hashlib.file_digest(written, "sha256").hexdigest()
    counts = writer.counts()
    about = {"name": output.name, "bytes": draft.stat().st_size, "sha256": checksum}
    head = {
        "file": about if counts["objects"] else None,
        "counts": counts,
        "marks": writer.marks,
    }
    with report_draft.open("w", encoding="ascii") as report_file:
        notes.write_report(report_file, head)
        _flush(report_file)
    return Summary(
        output,
        report_path(output),
        counts,
        notes.rejected,
        notes.remarks,
        dict(writer.marks),
        writer.images.advice(),
    )


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Items come and go by the million; few of them outlive their batch."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _flush(file: IO[str]) -> None:
    """To the disk before the name: a crash never leaves a whole name on half a file."""
    file.flush()
    os.fsync(file.fileno())
