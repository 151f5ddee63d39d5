"""What the writers of all formats share: which objects and images they can take."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from exits_jax.exporters.folders import ImagePaths, NameFault
from exits_jax.exporters.masks import ImageMasks, MaskObject, MaskSource, Options
from exits_jax.exporters.report import CROWD, Report


def with_files(
    source: MaskSource, suffix: str, report: Report
) -> Iterator[tuple[ImageMasks, PurePosixPath]]:
    """The images with the relative path of a file for each; counts the images.

    Args:
        source: The masks.
        suffix: Of the files, such as ".png".
        report: Gets the objects of images whose name cannot be used.
    """
    paths = ImagePaths(suffix)
    for image in source.images():
        try:
            path = paths.claim(image.file_name)
        except NameFault as fault:
            leave_out_image(image, fault, report)
            continue
        report.num_images += 1
        yield image, path


def leave_out_image(image: ImageMasks, fault: NameFault, report: Report) -> None:
    """Notes that an image and its objects are not in the output."""
    for item in image.objects:
        message = f"Annotation {item.annotation_id!r:.80}: {fault}"
        report.leave_out(item.annotation_id, fault.code, message)
    report.warn("unusable_images")


def without_crowds(image: ImageMasks, report: Report) -> list[MaskObject]:
    """The objects that are no crowd regions; those go to the report."""
    for item in image.objects:
        if item.is_crowd:
            message = (
                f"Annotation {item.annotation_id!r:.80} is a crowd region, for which "
                f"{report.kind} has no place."
            )
            report.leave_out(item.annotation_id, CROWD, message)
    return [item for item in image.objects if not item.is_crowd]


def lose_scores(objects: list[MaskObject], report: Report) -> None:
    """Counts the scores that the format has no place for."""
    report.warn("lost_scores", sum(item.score is not None for item in objects))


def link_images(
    folder: Path, links: dict[PurePosixPath, PurePosixPath], options: Options
) -> int:
    """Links to the images instead of copying them.

    Args:
        folder: The export.
        links: Places in the export, to folders below the image folder.
        options: Knows the image folder.

    Returns:
        How many links could not be made, for want of an image folder.
    """
    if options.images is None:
        return len(links)
    for place, target in links.items():
        link = folder / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((options.images / target).resolve(), target_is_directory=True)
    return 0
