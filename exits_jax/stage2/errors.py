"""What is wrong with the input of stage 2."""


class Stage2Error(ValueError):
    """A file, folder or setting that stage 2 cannot work with; the message names it."""
