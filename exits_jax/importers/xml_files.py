"""XML from outside, alone or in a zip, as a stream of elements.

Nothing is unpacked, no entity is resolved and no other document is opened.
"""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from exits_jax.data.image_names import last_part
from exits_jax.data.records import AnnotationError, fault

_MAX_BYTES = 8 * 2**30  # of XML in a zip
_BOMB_BYTES = 2**26  # from here on the ratio counts; annotations shrink about 10 times
_BOMB_RATIO = 300


def xml_events(path: Path, member: str) -> Iterator[tuple[str, Element]]:
    """Yields ("start" or "end", element) in the order of the file.

    Args:
        path: An XML file, or a zip with one.
        member: Name of the XML in a zip, in whatever folder there.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is no whole XML or zip (E101), the zip has not one such
            member (E102), it would unpack to too much (E115), or the XML has a document
            type of its own, where entities are defined (E116).
    """
    if not path.exists():
        raise FileNotFoundError(f"Annotation file {path} does not exist.")
    if not path.is_file():
        raise fault("E101", f"{path} is not a file; expected an XML or a zip.")
    try:
        with ExitStack() as stack:
            stream = _open(path, member, stack)
            yield from iterparse(stream, ("start", "end"), forbid_dtd=True)
    except AnnotationError:
        raise
    except DefusedXmlException as error:
        raise fault(
            "E116",
            f"{path} has a document type or entities of its own "
            f"({type(error).__name__}), which annotations never need; nothing behind "
            "them was read.",
        ) from error
    except (ParseError, LookupError, ValueError) as error:  # unknown encodings too
        raise fault(
            "E101", f"{path} is not XML: {error}. Is the file complete?"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise fault(
            "E101", f"{path} is a damaged or encrypted zip: {error}. Export it again."
        ) from error


def _open(path: Path, member: str, stack: ExitStack) -> Any:
    """The XML as a binary stream, which `stack` closes."""
    file = stack.enter_context(path.open("rb"))
    is_zip = file.read(2) == b"PK"
    file.seek(0)
    if not is_zip:
        return file
    archive = stack.enter_context(zipfile.ZipFile(file))
    found = [info for info in archive.infolist() if last_part(info.filename) == member]
    if len(found) != 1:
        raise fault(
            "E102", f"{path} holds {len(found)} files named {member}; expected one."
        )
    info = found[0]
    size, ratio = info.file_size, info.file_size / max(info.compress_size, 1)
    if size > _MAX_BYTES or (size > _BOMB_BYTES and ratio > _BOMB_RATIO):
        raise fault(
            "E115",
            f"{path}: its {member} would unpack to {size} bytes, {ratio:.0f} times its "
            "size in the zip, and was not read. If it is sound, unpack it and pass the "
            "XML.",
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise fault(
            "E101",
            f"{path}: its {member} is compressed by method {info.compress_type}; "
            "expected an ordinary zip (deflate).",
        )
    if info.header_offset < 0:  # what a wrong offset of the directory leads to
        raise zipfile.BadZipFile("its directory points before the start of the file")
    return stack.enter_context(archive.open(info))  # gives at most `size` bytes
