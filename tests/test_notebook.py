import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.support.toy import ROOT

NOTEBOOK = ROOT / "examples" / "clicks_to_masks.ipynb"


def run_notebook(folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs; a cell that fails raises.

    Args:
        folder: Where it works; its files stay there.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    given = {
        "CLICKS_TO_MASKS": str(folder),
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",  # it trains for longer than it compiles
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        nbclient.NotebookClient(
            notebook, timeout=None, kernel_name="python3", coalesce_streams=True
        ).execute()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return notebook


def texts_of(notebook: nbformat.NotebookNode) -> str:
    """All that its cells printed."""
    outputs = (o for cell in notebook.cells for o in cell.get("outputs", ()))
    return "".join(o.get("text", "") for o in outputs)


@pytest.mark.slow
def test_the_tutorial_goes_from_clicks_to_masks(tmp_path):
    notebook = run_notebook(tmp_path)
    said = texts_of(notebook)
    assert "error:" not in said
    (row,) = (line for line in said.splitlines() if line.startswith("EXITS  "))
    box = next(line for line in said.splitlines() if line.startswith("box as mask"))
    assert float(row.split()[1]) > float(box.split()[3])
    assert (tmp_path / "run/pseudo_masks.json").is_file()
    assert any(path.suffix == ".xml" for path in (tmp_path / "run/export").rglob("*"))


if __name__ == "__main__":  # keeps its outputs in the file, to be looked at on the web
    done = run_notebook(Path(sys.argv[1]))
    for cell in done.cells:
        cell.metadata.clear()  # times
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)
    nbformat.write(done, NOTEBOOK)
