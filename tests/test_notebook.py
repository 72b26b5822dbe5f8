"""The notebook in scripts/: it runs from top to bottom and shows what it should."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOK = Path(__file__).parent.parent / "scripts/tour.ipynb"


def test_the_notebook_runs_and_shows_progress_a_table_curves_and_a_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither a theme nor a history of the user's takes part.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [one.get("data", {}) for cell in notebook.cells for one in cell.get("outputs", ())]
    assert sum("image/png" in shown for shown in outputs) == 3
    pages = [shown["text/html"] for shown in outputs if "text/html" in shown]
    (progress,) = (page for page in pages if "<progress value=600 max=600>" in page)
    assert "step 600/600" in progress
    (shown_run,) = (page for page in pages if "data:image/png;base64," in page)
    assert "completed at step 600, sliced_wasserstein 0." in shown_run
    assert any("<table" in page for page in pages)
    assert len(list(tmp_path.glob("outputs/tour/sweep/*/result.json"))) == 4


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(code) == 7
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
