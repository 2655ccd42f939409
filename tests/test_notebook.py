"""The notebook of experiments/: as it is committed, and executed on a finished run."""

import json
from types import SimpleNamespace

import pytest
from runs import ROOT, load

from pneumojax.stage import Stage

PATH = ROOT / "experiments/figures.ipynb"


def test_it_is_committed_without_outputs():
    """Which would show images, and paths of a machine."""
    cells = json.loads(PATH.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_a_run_without_curves_has_no_figure_of_them(monkeypatch):
    """As a probe's, which no step trains."""
    pandas, pyplot = pytest.importorskip("pandas"), pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(pyplot, "subplots", lambda *_, **__: pytest.fail("there is nothing to draw"))
    cells = ["".join(cell["source"]) for cell in json.loads(PATH.read_text())["cells"]]
    [cell] = [cell for cell in cells if "done.curves" in cell]
    exec(cell, {"pd": pandas, "plt": pyplot, "Stage": Stage, "done": SimpleNamespace(curves={})})


@pytest.mark.slow
def test_it_draws_a_finished_run(whole, monkeypatch):
    """All figures, and the areas under its curves are those of results.json."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PNEUMOJAX_WORKDIR", str(whole))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(PATH, as_version=4)
    nbformat.validate(notebook)
    notebook.cells.append(nbformat.v4.new_code_cell("print(areas.groupby('arm').auc.mean().to_json())"))
    resources = {"metadata": {"path": str(PATH.parent)}}
    done = nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in done.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 4
    assert sum("text/html" in output.get("data", ()) for output in outputs) == 3
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    expected = {name: arm["unseen"]["mean"]["auc"] for name, arm in load(whole)["protocols"]["clean"].items()}
    assert json.loads(outputs[-1]["text"]) == pytest.approx(expected)
