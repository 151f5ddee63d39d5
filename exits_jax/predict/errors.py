"""What can be wrong with what a predictor is given."""

from exits_jax.data.images import ImageError
from exits_jax.run.check_weights import WeightsError

__all__ = ["ClickError", "ImageError", "NoImageSet", "WeightsError"]


class ClickError(ValueError):
    """Clicks or a box that describe no object of the image; the message says why.

    Attributes:
        code: That of docs/checks.md, such as "E205".
    """

    def __init__(self, message: str, code: str):
        """Keeps the message for people and the code for programs."""
        super().__init__(message)
        self.code = code


class NoImageSet(RuntimeError):
    """Clicks came before an image."""

    def __init__(self) -> None:
        """Says what to do."""
        super().__init__(
            "There is no image yet: call set_image(path or uint8 [height, width, 3]) "
            "before predict(), or give it one by predict(..., image=...)."
        )
