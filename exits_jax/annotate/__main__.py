"""The command `exits-jax annotate`: a page where four clicks give a mask."""

import importlib.util
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from exits_jax.annotate.addresses import LOOPBACK, parsed
from exits_jax.annotate.options import TOOLS, names_of, parser
from exits_jax.cli.words import UsageError
from exits_jax.exit_status import BAD_INPUT, FAILED, OK, USAGE
from exits_jax.files.words import fail, how_to_install


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until it is stopped; returns the exit status.

    Raises:
        UsageError: If the words make no sense.
    """
    args = parser().parse_args(argv)
    _check(args)
    from exits_jax.annotate.serve import Address, serve
    from exits_jax.annotate.store import Store, Task
    from exits_jax.data.records import AnnotationError
    from exits_jax.files.locks import InUse

    try:
        task = Task(args.folder, args.out, names_of(args.classes), args.review)
        store = Store(task)
        serve(
            store,
            _loader(args),
            Address(args.host, args.port, args.token),
            is_opened=args.open,
            speak=_listed(args.speak),
            allow=_listed(args.allow),
            **_facts(args),
        )
    except InUse as error:
        return fail(f"{args.out} is in use by {error.owner}.", USAGE)
    except (AnnotationError, FileNotFoundError) as error:
        return fail(error, BAD_INPUT)
    except OSError as error:
        return fail(error, FAILED)
    return OK


def _check(args: Namespace) -> None:
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"The page needs the package {name}. {how_to_install('annotate')}"
            )
    if args.out.suffix != ".json":
        raise UsageError(f"--out={args.out}: expected the name of a .json file.")
    if not 0 <= args.port < 2**16:
        raise UsageError(f"--port={args.port}: expected 0 to 65535.")
    if args.token and not re.fullmatch(r"[A-Za-z0-9_.~-]+", args.token):
        raise UsageError(
            "--token stands in the address of the page: letters, digits and - _ . ~ "
            "are possible."
        )
    if args.host not in LOOPBACK and len(args.token) < 16:
        raise UsageError(
            f"--host={args.host} lets other machines in: give --token=... of 16 or "
            "more characters, too."
        )
    if args.review is not None and args.review.resolve() == args.out.resolve():
        raise UsageError("--out would overwrite the masks of --review.")
    _check_tools(args)
    if args.points and args.model:
        raise UsageError("--points asks for no mask: leave out --model, or --points.")


def _check_tools(args: Namespace) -> None:
    names = _listed(args.speak)
    for name in names:
        if name not in TOOLS:
            raise UsageError(f"--speak={name}: known are {', '.join(TOOLS)}.")
    if names and not args.model:
        raise UsageError("--speak makes masks for other tools: give --model, too.")
    if args.allow and "cvat" not in names:
        raise UsageError("--allow is of --speak=cvat: the others have a token.")
    for address in _listed(args.allow):
        if parsed(address) is None:
            raise UsageError(f"--allow={address}: expected addresses, as 172.17.0.2.")
    if args.allow and args.host in LOOPBACK:
        raise UsageError(
            f"--allow lets other machines in, and --host={args.host} none: give "
            "--host=... and --token=..., too."
        )


def _listed(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _loader(args: Namespace) -> Callable[[], Any] | None:
    if args.model is None:
        return None

    def load() -> Any:
        from exits_jax.predict.predictor import Predictor  # JAX and all that needs it

        return Predictor.load(args.model, weights=args.weights, dtype=args.dtype)

    return load


def _facts(args: Namespace) -> dict[str, Any]:
    """What the page is told: how to look, and what to do next."""
    out, folder = _shown(args.out), _shown(args.folder)
    data = f"--config.data.train={out} --config.data.images={folder}"
    model = args.model or ""
    encoder = shlex.quote(model[5:]) if model.startswith("walk:") else "ENCODER"
    mode = "review" if args.review else "points" if args.points else "clicks"
    return {
        "mode": mode,
        "out": out,
        "commands": {
            "train": f"exits-jax run --config=custom --workdir=runs/mine {data} "
            f"--config.init.encoder={encoder}",
            "predict": f"exits-jax predict {out} --images={folder} "
            "--model=RUN_OR_FILE --out=masks.json",
            "export": f"exits-jax export --config.export.source={out} "
            f"--config.data.images={folder} --config.export.kind=cvat "
            "--config.export.out=cvat",
        },
    }


def _shown(path: Path) -> str:
    return shlex.quote(str(path))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(fail(error, USAGE))
