"""What --help prints."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence

import ml_collections as mlc

from exits_jax.cli.commands import COMMANDS, PHASES, TOOLS
from exits_jax.cli.fields import leaves, sentences
from exits_jax.cli.flags import PROGRAM, parser

_EXAMPLES = f"""\
examples:
  {PROGRAM} run --config=quickstart
  {PROGRAM} run --config=custom:cpu --workdir=runs/mine \\
      --config.data.train=FILE.json --config.data.images=FOLDER \\
      --config.init.encoder=WEIGHTS.safetensors
  {PROGRAM} predict photo.jpg --clicks="48,20 12,51 60,83 91,40" \\
      --model=runs/mine --out=mask.png
  {PROGRAM} evaluate --workdir=runs/mine --config.generate.threshold=0.4
  {PROGRAM} train --help
"""


def overview() -> str:
    """All commands, a line each."""
    blocks = [
        f"usage: {PROGRAM} COMMAND [--config=NAME|FILE] [--workdir=FOLDER] "
        "[--config.FIELD=VALUE ...]",
        "",
        *_wrapped(
            "Four extreme clicks per object in, instance masks out. A workdir keeps "
            "the configuration of its run: later commands need --workdir alone.",
            "",
        ),
    ]
    others = [name for name in COMMANDS if name not in ("run", *PHASES, *TOOLS)]
    groups = {
        "all phases": ["run"],
        "one phase": PHASES,
        "beside a run": TOOLS,
        "without a run": others,
    }
    for title, names in groups.items():
        blocks += ["", f"{title}:"]
        blocks += [f"  {name:<10}  {COMMANDS[name].summary}" for name in names]
    blocks += ["", _EXAMPLES]
    blocks += [f"{PROGRAM} COMMAND --help lists its flags and fields; --version."]
    return "\n".join(blocks)


def of_command(command: str, config: mlc.ConfigDict, name: str) -> str:
    """Flags and own fields of a command.

    Args:
        command: One that works on a configuration.
        config: Where the values that are shown come from.
        name: What it is called.
    """
    about = COMMANDS[command]
    blocks = [
        f"usage: {PROGRAM} {command} [--config=NAME|FILE] [--workdir=FOLDER] "
        "[--config.FIELD=VALUE ...]",
        "",
        *_wrapped(about.summary, ""),
        "",
        _flags(command),
        "",
        f"fields, set by --config.FIELD=VALUE, with their values in {name}:",
    ]
    for section in about.own:
        blocks += ["", *_section(section, dict(leaves(config)))]
    if about.shared:
        names = ", ".join(about.shared)
        more = f"Also read: {names}; `{PROGRAM} run --help` lists their fields."
        blocks += ["", *_wrapped(more, "")]
    return "\n".join(blocks)


def _flags(command: str) -> str:
    """Argparse's own list, without its usage."""
    return parser(command).format_help().partition("\n\n")[2].rstrip()


def _section(section: str, values: dict) -> Iterator[str]:
    is_own = lambda field: field == section or field.startswith(f"{section}.")
    fields = [f for f in sentences() if f in values and is_own(f)]
    if section not in values:
        yield from _wrapped(f"{section}: {sentences()[section]}", "")
    for field in fields:
        # The empty text is a value too, and a tuple is typed in quotes.
        yield f"  {field} = {_as_typed(values[field])}"
        yield from _wrapped(sentences()[field], "      ")


def _as_typed(value: object) -> str:
    if value is None:
        return "none"
    return f'"{value}"' if isinstance(value, str | tuple) else str(value)


def _wrapped(text: str, indent: str) -> Sequence[str]:
    width = min(shutil.get_terminal_size().columns, 100)
    return textwrap.wrap(
        text, max(width, 40), initial_indent=indent, subsequent_indent=indent
    )
