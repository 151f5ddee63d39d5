"""The command `exits-jax predict`: masks for new clicks, of one image or of many."""

import sys
from argparse import Namespace
from collections.abc import Sequence

from exits_jax.cli.words import UsageError
from exits_jax.exit_status import USAGE
from exits_jax.files.words import fail
from exits_jax.predict.options import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Does what the words say; returns the exit status of `status_of`.

    Raises:
        UsageError: If they make no sense.
    """
    args = parser().parse_args(argv)
    objects = [*args.clicks, *args.box]
    if not objects and args.images is None:
        raise UsageError(
            "Give --images=FOLDER with an annotation file, or --clicks=... or "
            "--box=... with an image. See exits-jax predict --help."
        )
    if objects and args.images is not None:
        raise UsageError(
            "--clicks and --box belong to one image, --images to an annotation file."
        )
    # JAX and all that needs it
    from exits_jax.predict.errors import ClickError
    from exits_jax.run.reported import log_to_terminal, status_of, stop_logging

    log_to_terminal()
    try:
        return status_of(lambda: _of_image(args) if objects else _of_file(args))
    except ClickError as error:
        return fail(f"{error.code}: {error}", USAGE)
    finally:
        stop_logging()


def _of_image(args: Namespace) -> None:
    from exits_jax.predict.one_image import predict_image
    from exits_jax.predict.predictor import Predictor

    predictor = Predictor.load(
        args.model, weights=args.weights, dtype=args.dtype, threshold=args.threshold
    )
    objects = [*args.clicks, *args.box]
    predict_image(predictor, args.source, objects, args.out, overlay=args.overlay)


def _of_file(args: Namespace) -> None:
    from exits_jax.predict.files import Task, predict_file
    from exits_jax.run.programs import keep_programs

    keep_programs()
    given = {
        "generate.weights": args.weights,
        "generate.threshold": args.threshold,
        "generate.batch_size": args.batch_size,
        "model.dtype": args.dtype,
    }
    task = Task(
        source=args.source,
        images=args.images,
        model=args.model,
        out=args.out,
        kind=args.kind,
        format=args.format,
        tolerance_px=args.tolerance_px,
        max_skip_fraction=args.max_skip_fraction,
        follow_links=args.follow_links,
        given={name: value for name, value in given.items() if value is not None},
    )
    predict_file(task)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(fail(error, USAGE))
