"""Names that images have in their folder, where a file gives them otherwise.

`prepare` finds an image by a name that may be a path of another machine. What comes
after it, other programs among them, gets the name that opens the image.
"""

import os
from pathlib import Path

from exits_jax.data.coco_file import CocoFile
from exits_jax.data.table import Instances
from exits_jax.files.json_files import write_json
from exits_jax.files.seals import read_json
from exits_jax.run.identity import annotation_files, refuse_other
from exits_jax.run.workdir import Workdir


def write_image_names(
    workdir: Workdir, split: str, source: CocoFile, instances: Instances, folder: Path
) -> None:
    """Notes the names that differ, and gives them to the images of `source`.

    Args:
        workdir: The folder of the run.
        split: "train" or "val".
        source: The annotation file; its images get the names.
        instances: Its usable objects.
        folder: The image folder.
    """
    names: dict[int, str] = {}
    places = instances.image_position.tolist()
    for place, path in zip(places, instances.paths, strict=True):
        written = source.images[place].get("file_name")
        if isinstance(written, str) and path != os.path.join(folder, written):
            names[place] = Path(os.path.relpath(path, folder)).as_posix()
    file = _file(workdir, split)
    if names:
        write_json(file, {str(place): name for place, name in names.items()})
    else:
        file.unlink(missing_ok=True)
    _rename(source, names)


def read_source(workdir: Workdir, split: str) -> CocoFile:
    """The annotation file of a split, its images under the names that open them.

    Raises:
        ConfigError: If the file is not the one that was prepared.
        Damaged: If the names are not those that `prepare` wrote.
    """
    refuse_other(workdir, split)
    source = CocoFile.read(annotation_files(workdir)[split])
    file = _file(workdir, split)
    workdir.refuse_damaged("prepare", f"annotations/{file.name}")
    if file.exists():
        names = read_json(file, dict)
        _rename(source, {int(place): name for place, name in names.items()})
    return source


def _rename(source: CocoFile, names: dict[int, str]) -> None:
    if names:
        source.images.replace(
            {
                place: {**source.images[place], "file_name": name}
                for place, name in names.items()
            }
        )


def _file(workdir: Workdir, split: str) -> Path:
    return workdir / "annotations" / f"{split}_names.json"
