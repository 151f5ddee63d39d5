"""Paths that come from outside: only those that stay below a folder are used."""

import os
import re

_URL_OR_DRIVE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:|[A-Za-z]:[\\/]")


def is_inside(name: str) -> bool:
    """Whether a file name can only lead to a place below its folder."""
    if not name or "\0" in name or name[0] in "/\\" or _URL_OR_DRIVE.match(name):
        return False
    return ".." not in re.split(r"[/\\]", name)


def leads_out(path: str, folder: str) -> bool:
    """Whether a link between a folder and a file below it points elsewhere."""
    below, top = path, os.path.normpath(folder)
    while (below := os.path.normpath(below)) != top and below != os.path.dirname(below):
        if os.path.islink(below):
            home = os.path.realpath(folder)
            return os.path.commonpath([home, os.path.realpath(path)]) != home
        below = os.path.dirname(below)
    return False
