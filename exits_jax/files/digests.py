"""SHA-256 of files."""

import hashlib
from pathlib import Path


def sha256_of(*paths: Path) -> str:
    """Of the contents of files, one behind the other, in hexadecimal digits."""
    if len(paths) == 1:
        with paths[0].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(2**22):
                digest.update(chunk)
    return digest.hexdigest()
