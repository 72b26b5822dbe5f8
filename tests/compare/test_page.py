"""The page holds all of a comparison, runs no code of others and works in a browser."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from fake_runs import make_run, make_sweep
from PIL import Image

from gan.compare import query
from gan.compare.frame import read_table
from gan.compare.page import page_data, render_page, write_page
from gan.errors import UserError
from gan.run.pictures import caption, encode, open_exact, sample_files

EVIL = "</script><script>document.title='run'</script><img src=x onerror=document.title='run'>"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "sweep"
    make_sweep(folder)
    make_run(folder / "evil", f'notes="{EVIL}"', value=0.9, status="failed", error=EVIL, image=9)
    return folder


def test_the_page_loads_nothing_and_holds_no_markup_of_runs(sweep: Path) -> None:
    text = render_page(read_table([sweep]), f"title {EVIL}")
    assert text.count("<script") == 2
    assert "<img src=x" not in text
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match
    data = json.loads(match[1])
    assert data["title"] == f"title {EVIL}"
    assert "@@" not in text.replace(match[1], "")
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "innerHTML" not in text


def test_the_page_has_the_data_of_the_runs(sweep: Path) -> None:
    table = query.where(read_table([sweep]), "status != 'failed'")
    table = query.ordered(table, "sliced_wasserstein")
    data = page_data(table, "")
    assert len(data["rows"]) == len(data["curves"]["runs"]) == len(data["configs"]) == 12
    steps, values = data["curves"]["runs"][0]["sliced_wasserstein"]
    assert steps == [100, 200, 300, 400, 500, 600]
    assert values[-1] == 0.08
    assert data["directions"]["sliced_wasserstein"] == 1
    assert data["samples"]["steps"] == [200, 400, 600]
    assert set(data["samples"]["runs"][0]) == {"200", "400", "600"}
    assert data["configs"][0] == {"model.hidden_dim": "128", "optimizer.lr": "0.001"} | (
        {"discriminator_optimizer.lr": "0.001"}
    )
    assert [row[0] for row in data["ranking"]["rows"]] == ["1="] * 4
    assert "no two groups can be told apart" in " ".join(data["ranking"]["notes"])


def test_a_page_of_many_runs_is_small(sweep: Path, tmp_path: Path) -> None:
    noise = Image.effect_noise((242, 242), 80)
    for number in range(100):
        run = tmp_path / str(number)
        if number == 0:
            make_run(run, points=300)
            for step in range(500, 30001, 500):
                noise.save(run / "samples" / f"step-{step:06d}.png")
            continue
        shutil.copytree(tmp_path / "0", run)
    text = render_page(read_table([tmp_path]), "")
    # Noise compresses worse than any samples.
    assert len(text) < 10e6
    data = page_data(read_table([tmp_path]), "")
    assert len(data["samples"]["steps"]) == 4
    assert data["samples"]["steps"][-1] == 30000
    steps, _ = data["curves"]["runs"][5]["sliced_wasserstein"]
    assert steps[-1] == 30000
    assert len(steps) == 300


def test_a_page_shows_the_exact_samples_of_enlarged_pictures(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "one", image=3)
    before = page_data(read_table([tmp_path]), "")["samples"]
    for step, path in sample_files(run_dir).items():
        path.write_bytes(encode(open_exact(path), caption(step, 31)))
    assert page_data(read_table([tmp_path]), "")["samples"] == before


def test_a_page_that_cannot_be_written_is_reported(sweep: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_page(read_table([sweep]), Path("/dev/null/page.html"), "")


@pytest.fixture(scope="module")
def browser(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a headless Chromium that shows the page."""
    driver = chromium(tmp_path_factory.mktemp("profile"))
    out = tmp_path_factory.mktemp("page") / "page.html"
    table = query.ordered(read_table([sweep]), "sliced_wasserstein")
    write_page(table, out, "a study")
    # Chromium opens some addresses by itself, which are dropped from the log here.
    driver.get("about:blank")
    driver.get_log("performance")
    driver.get(out.as_uri())
    yield driver
    driver.quit()


def evaluate(browser: Any, script: str) -> Any:
    return browser.execute_script(f"return {script}")


def column(browser: Any, name: str) -> list[str]:
    """Return the texts in a column of the table of runs."""
    place = (
        "[...document.querySelectorAll('#table th button')]"
        f".findIndex(b => /^{name}( |$)/.test(b.textContent))"
    )
    cells = (
        f"[...document.querySelectorAll('#table tbody tr')].map(r => r.cells[{place}].textContent)"
    )
    texts: list[str] = evaluate(browser, cells)
    return texts


@pytest.mark.browser
def test_in_a_browser_runs_are_sorted_filtered_and_opened(browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    assert browser.title == "a study"
    assert len(column(browser, "run")) == 13
    head = (
        "[...document.querySelectorAll('#table th button')].find(b => /^seed/.test(b.textContent))"
    )
    evaluate(browser, f"{head}.click()")
    assert column(browser, "seed") == ["0"] * 5 + ["1"] * 4 + ["2"] * 4
    # The focus stays on the heading, and the keyboard does the same as a click.
    browser.switch_to.active_element.send_keys(keys.ENTER)
    assert column(browser, "seed") == ["2"] * 4 + ["1"] * 4 + ["0"] * 5
    assert evaluate(browser, f"{head}.parentElement.ariaSort") == "descending"
    field = browser.find_element("id", "filter")
    field.send_keys("lr<0.0005 hidden_dim=256")
    assert column(browser, "hidden_dim") == ["256"] * 3 + ["256"]
    field.send_keys(" seed=1")
    assert len(column(browser, "run")) == 1
    assert "1 of 13" in browser.find_element("id", "count").text
    evaluate(browser, "document.querySelector('#table td button').click()")
    dialog = browser.find_element("id", "run")
    assert dialog.is_displayed()
    assert "hidden_dim=256,lr=0.0002,seed=1" in dialog.text
    assert re.search(r"model.hidden_dim\s+256\s+128\s+256", dialog.text)
    dialog.find_element("tag name", "button").click()
    assert not dialog.is_displayed()
    field.clear()
    field.send_keys(keys.SPACE)
    box = evaluate(browser, "document.querySelector('#columns input')")
    evaluate(browser, "document.querySelector('#columns').parentElement.open = true")
    box.click()
    assert "run" not in evaluate(browser, "document.querySelector('#table thead').textContent")
    box.click()


@pytest.mark.browser
def test_in_a_browser_every_view_is_drawn(browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    assert evaluate(browser, "document.querySelectorAll('#curves polygon').length") == 4
    evaluate(browser, "document.querySelector('#bands').click()")
    assert evaluate(browser, "document.querySelectorAll('#curves .chart polyline').length") == 8
    hatched = evaluate(
        browser, "[...document.querySelectorAll('#heat .hatched')].map(c => c.textContent)"
    )
    assert any("1 of 3 diverged" in text for text in hatched)
    assert evaluate(browser, "document.querySelectorAll('#parallel polyline').length") == 13
    slider = browser.find_element("id", "step")
    first = evaluate(browser, "document.querySelector('#samples td img').src")
    assert "600" in browser.find_element("id", "step-text").text
    slider.send_keys(keys.ARROW_LEFT)
    assert "400" in browser.find_element("id", "step-text").text
    assert evaluate(browser, "document.querySelector('#samples td img').src") != first
    assert "evil" in browser.find_element("id", "failures").text
    pictures = "[...document.images].every(image => image.alt && image.naturalWidth > 0)"
    assert evaluate(browser, pictures)


@pytest.mark.browser
def test_in_a_browser_nothing_is_loaded_and_nothing_goes_wrong(browser: Any) -> None:
    assert browser.get_log("browser") == []
    assert browser.title == "a study"
    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    others = [url for url in requests if not url.startswith(("file:", "data:"))]
    assert others == []
    assert any(url.endswith("page.html") for url in requests)
