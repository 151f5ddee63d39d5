"""Output folders that appear whole or not at all, and the names of files in them."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from exits_jax.exporters.report import NAME, UNSAFE_NAME
from exits_jax.files.leftovers import remove_leftovers
from exits_jax.files.paths import is_inside

REPORT = "export_report.json"
_MAX_NAME_BYTES = 255  # of one part of a path, on usual file systems


class FolderError(ValueError):
    """An output folder that must not be replaced; the message says why."""


class NameFault(ValueError):
    """A file name that the export cannot use; `code` is that of the report."""

    def __init__(self, code: str, message: str):
        """Keeps the message for people and the code for programs."""
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def building(out: str | Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends well.

    Args:
        out: The folder to make. What is there may be an earlier export that nobody
            has changed since, which is then replaced.

    Yields:
        The folder to write into, beside `out`; removed if anything fails.

    Raises:
        FolderError: If something else is there, or no folder can be made.
    """
    out = Path(os.path.realpath(out))
    check_replaceable(out)
    ends = "new|old" if out.exists() else "new"  # the old one may be all there is
    names = rf"\.{re.escape(out.name)}\.(\d+)\.(?:{ends})"
    remove_leftovers(out.parent, names, folders=True)
    new = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)  # of a dead process of the same number
        new.mkdir()
    except OSError as error:
        raise FolderError(f"{out} cannot be made: {error.strerror}.") from error
    try:
        yield new
        check_replaceable(out)
        _take_place(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """Raises FolderError unless `out` is free, empty or an untouched earlier export."""
    advice = "Choose another export.out, or move it away."
    if not out.exists():
        return
    if not out.is_dir():
        raise FolderError(f"{out} is a file; expected a folder to export to. {advice}")
    if not any(out.iterdir()):
        return
    try:
        report = json.loads((out / REPORT).read_text("utf-8"))
        num_files, written = report["num_files"], (out / REPORT).stat().st_mtime_ns
    except (OSError, ValueError, KeyError, TypeError):
        raise FolderError(
            f"{out} exists and is not an export of this program. {advice}"
        ) from None
    files = list(_files(out))
    newer = [path for path in files if path.lstat().st_mtime_ns > written]
    if newer:
        raise FolderError(
            f"{out} holds an earlier export in which {len(newer)} files were changed "
            f"or added since, the first: {newer[0].relative_to(out)}. {advice}"
        )
    if len(files) != num_files:
        raise FolderError(
            f"{out} holds an earlier export of {num_files} files, but now "
            f"{len(files)} of them. {advice}"
        )


def count_files(folder: Path) -> int:
    """Number of files and links in a folder and those below it."""
    return sum(1 for _ in _files(folder))


def safe_name(file_name: str) -> PurePosixPath:
    """The name of an image as a path that stays in its folder.

    Raises:
        NameFault: If it could lead elsewhere (E112).
    """
    is_safe = is_inside(file_name) and PurePosixPath(file_name).name != ""
    if not is_safe or not _is_utf8(file_name):
        raise NameFault(
            UNSAFE_NAME,
            f"the file name {file_name!a:.200} is unsafe; expected a path below the "
            "image folder.",
        )
    return PurePosixPath(file_name)


class ImagePaths:
    """Gives every image a file of its own in the output."""

    def __init__(self, suffix: str):
        """Starts with no file; `suffix`, such as ".png", replaces that of the image."""
        self._suffix = suffix
        self._files: set[PurePosixPath] = set()
        self._folders: set[PurePosixPath] = set()

    def claim(self, file_name: str) -> PurePosixPath:
        """The relative path of an image's file, with the folders of its name.

        Raises:
            NameFault: If the name is unsafe (E112), too long, has a line break or
                leads to the same file as another one (E306).
        """
        path = safe_name(file_name).with_suffix(self._suffix)
        if len(file_name.splitlines()) != 1:
            raise NameFault(NAME, f"the file name {file_name!a:.200} has line breaks.")
        if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
            raise NameFault(NAME, f"the file name {file_name!a:.80}... is too long.")
        above = set(path.parents)
        if path in self._files or path in self._folders or above & self._files:
            raise NameFault(
                NAME,
                f"the file name {file_name!a:.200} leads to {str(path)!a:.200}, which "
                "belongs to another image.",
            )
        self._files.add(path)
        self._folders |= above
        return path


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (Path(place) / name for name in (*files, *links))


def _take_place(new: Path, out: Path) -> None:
    """Renames the new folder to its final name; the old one goes only after that."""
    if not out.exists():
        os.rename(new, out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    os.rename(out, old)
    try:
        os.rename(new, out)
    except BaseException:
        os.rename(old, out)
        raise
    shutil.rmtree(old)
