"""The exit statuses of every command."""

OK = 0
FAILED = 1  # what was computed went wrong, or a device or process was lost
USAGE = 2  # a flag, a field or a workdir that makes no sense
BAD_INPUT = 3  # annotations, images, weights or checkpoints that cannot be used
PARTIAL = 4  # more bad records or images than `data.max_skip_fraction`
TRY_AGAIN = 75  # stopped from outside with the state saved: the same command goes on
INTERRUPTED = 130  # stopped by Ctrl-C
