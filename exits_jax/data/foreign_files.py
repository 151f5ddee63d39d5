"""Names what a file is that cannot be read as an image, and what to do about it."""

_BROKEN = "with a damaged or incomplete header; fetch it again"

_KINDS = {  # from which byte on, what stands there
    (4, b"ftyphei"): "HEIC; convert it to JPEG or PNG",
    (4, b"ftyphev"): "HEIC; convert it to JPEG or PNG",
    (4, b"ftypmif1"): "HEIC; convert it to JPEG or PNG",
    (4, b"ftypmsf1"): "HEIC; convert it to JPEG or PNG",
    (4, b"ftypavi"): "AVIF, which this Pillow cannot read; convert it to JPEG or PNG",
    (0, b"\xff\x0a"): "JPEG XL; convert it to JPEG or PNG",
    (4, b"JXL "): "JPEG XL; convert it to JPEG or PNG",
    (0, b"%!"): "PostScript, which is a program and is not run",
    (0, b"%PDF"): "PDF; convert it to JPEG or PNG",
    (0, b"version https://"): "a pointer of Git LFS; fetch the file itself",
    (0, b"\xff\xd8\xff"): f"JPEG {_BROKEN}",
    (0, b"\x89PNG"): f"PNG {_BROKEN}",
    (0, b"GIF8"): f"GIF {_BROKEN}",
    (0, b"RIFF"): f"WebP {_BROKEN}",
    (0, b"II*\0"): f"TIFF {_BROKEN}",
    (0, b"MM\0*"): f"TIFF {_BROKEN}",
    (0, b"<"): "a web page or XML; was the download refused?",
}


def foreign_kind(start: bytes) -> str | None:
    """The kind of a file that no reader of images takes; None if it is unknown.

    Args:
        start: Its first 16 bytes.
    """
    for (offset, magic), kind in _KINDS.items():
        if start[offset:].startswith(magic):
            return kind
    return None
