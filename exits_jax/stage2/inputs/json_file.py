"""JSON files that a person names."""

import json
from pathlib import Path
from typing import Any

from exits_jax.stage2.errors import Stage2Error


def read_json(path: Path) -> Any:
    """The content of a file; Stage2Error if it cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Stage2Error(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise Stage2Error(f"{path} is no JSON: {error}.") from error
