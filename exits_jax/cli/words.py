"""What a command line that makes no sense raises."""


class UsageError(ValueError):
    """A command line that makes no sense; the message says what would."""
