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
EVIL_NAME = "evil<img src=x onerror=document.title='run'>"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "sweep"
    make_sweep(folder)
    make_run(
        folder / EVIL_NAME,
        f'notes="{EVIL}"',
        value=0.9,
        status="failed",
        error=EVIL,
        image=9,
    )
    diverged = folder / "hidden_dim=256,lr=0.001,seed=2" / "result.json"
    verdict = {"problem": "mode collapse", "since": 100, "text": f"mode collapse {EVIL}"}
    diverged.write_text(json.dumps(json.loads(diverged.read_text()) | {"verdict": verdict}))
    return folder


def test_the_page_loads_nothing_and_holds_no_markup_of_runs(sweep: Path) -> None:
    text = render_page(read_table([sweep]), f"title {EVIL}")
    assert text.count("<script") == 3
    assert "<img src=x" not in text
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert match
    data = json.loads(match[1])
    assert data["title"] == f"title {EVIL}"
    assert "@@" not in text.replace(match[1], "")
    assert "default-src 'none'" in text
    assert "unsafe-eval" not in text
    ours = text[text.rindex("<script") :]
    assert "readFilter" in ours
    assert "innerHTML" not in ours


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
    # Noise compresses worse than any samples, so each run has one picture.
    assert len(text) < 5e6
    data = page_data(read_table([tmp_path]), "")
    assert data["samples"]["steps"] == [30000]
    steps, _ = data["curves"]["runs"][5]["sliced_wasserstein"]
    assert steps[-1] == 30000
    assert len(steps) == 300


def test_a_page_shows_the_exact_samples_of_enlarged_pictures(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "one", image=3)
    before = page_data(read_table([tmp_path]), "")["samples"]
    for step, path in sample_files(run_dir).items():
        path.write_bytes(encode(open_exact(path), caption(step, 31)))
    assert page_data(read_table([tmp_path]), "")["samples"] == before


def test_curves_of_runs_of_unequal_length_keep_the_same_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gan.compare.page.MAX_POINTS", 0)
    for seed, points in enumerate((60, 59)):
        make_run(tmp_path / str(seed), f"seed={seed}", points=points)
    runs = page_data(read_table([tmp_path]), "")["curves"]["runs"]
    first, second = (run["sliced_wasserstein"][0] for run in runs)
    assert first[-1] == 6000
    assert second == first[:-1]


def test_a_page_of_runs_without_values_says_which_ones_would_be_better(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "metrics=fast", "metrics.objective=recall", points=0, status=None)
    assert page_data(read_table([tmp_path]), "")["directions"] == {"recall": -1}


def test_a_page_that_cannot_be_written_is_reported(sweep: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_page(read_table([sweep]), Path("/dev/null/page.html"), "")


@pytest.fixture(scope="module")
def page(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the page."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    table = query.ordered(read_table([sweep]), "sliced_wasserstein")
    write_page(table, out, "a study")
    return out


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = chromium(tmp_path_factory.mktemp("profile"))
    # Chromium opens some addresses by itself, which are dropped from the log here.
    driver.get("about:blank")
    driver.get_log("performance")
    yield driver
    driver.quit()


@pytest.fixture
def browser(chrome: Any, page: Path) -> Any:
    """Return a headless Chromium that shows the page as it is at first."""
    chrome.get(page.as_uri())
    wait(chrome, "document.querySelectorAll('.chart svg').length === 3")
    return chrome


def evaluate(browser: Any, script: str) -> Any:
    return browser.execute_script(f"return {script}")


def wait(browser: Any, condition: str) -> None:
    """Wait until a condition holds, since charts are drawn a moment after what asks for them."""
    support = pytest.importorskip("selenium.webdriver.support.wait")
    support.WebDriverWait(browser, 20).until(lambda _: evaluate(browser, condition), condition)


def count(selector: str) -> str:
    """Return a script for the number of elements, without those that have no size."""
    return (
        f"[...document.querySelectorAll('{selector}')].map(e => e.getBoundingClientRect())"
        ".filter(box => box.width > 0 && box.height > 0).length"
    )


def choose(browser: Any, field: str, value: Any) -> None:
    """Give a field of the page a value, as a reader does."""
    browser.execute_script(
        "const field = document.getElementById(arguments[0]);"
        "field.value = arguments[1];"
        "field.dispatchEvent(new Event('input'))",
        field,
        value,
    )


LINES = "#curves .mark-line path"
BANDS = "#curves .mark-area path"
MARKS = "#curves .mark-symbol path"
FIRST_STEP = (
    "Math.min(...[...document.querySelector('#curves .role-axis-label').children]"
    ".map(label => label.textContent))"
)


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


@pytest.mark.browser
@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ('lr < 5e-4 and status == "completed"', 6),
        ("status=completed lr<0.0005", 6),
        ("not (seed == 0 or seed == 1)", 4),
        ("1e-4 < lr < 5e-4 seed in (1, 2)", 4),
        ("hidden_dim not in [128] `seed` >= 2", 2),
        ("'hidden_dim=128,lr'", 6),
        ("nowhere", 0),
        ("optimizer.lr < 5e-4 seed in (1,)", 2),
        ('changed > "2020-01-01"', 13),
    ],
)
def test_in_a_browser_the_filter_reads_conditions(browser: Any, text: str, runs: int) -> None:
    choose(browser, "filter", text)
    assert browser.find_element("id", "filter-message").text == ""
    assert f"{runs} of 13" in browser.find_element("id", "count").text


@pytest.mark.browser
def test_in_a_browser_a_filter_reads_true_and_a_chart_of_too_many_cells_says_so(
    chrome: Any, tmp_path: Path
) -> None:
    for number in range(40):
        flip, lr = str(number < 5).lower(), 1e-4 * (1 + number)
        keys = f"trainer.flip={flip}", f"optimizer.lr={lr}", f"seed={number}"
        make_run(tmp_path / str(number), *keys, image=number)
    out = tmp_path / "page.html"
    write_page(read_table([tmp_path]), out, "")
    chrome.get(out.as_uri())
    wait(chrome, "document.querySelectorAll('#heat .chart').length === 1")
    for text in ("flip == true", "flip == 1", "flip != 0", "not (flip == False)", "flip"):
        choose(chrome, "filter", text)
        assert chrome.find_element("id", "filter-message").text == ""
        assert "5 of 40" in chrome.find_element("id", "count").text, text
    choose(chrome, "filter", "")
    choose(chrome, "heat-rows", "seed")
    choose(chrome, "heat-columns", "lr")
    assert "40 times 40 values are too many" in chrome.find_element("css selector", "#heat").text
    choose(chrome, "sample-rows", "seed")
    choose(chrome, "sample-columns", "lr")
    assert "40 times 40 values" in chrome.find_element("css selector", "#samples").text
    choose(chrome, "filter", "seed < 5")
    wait(chrome, "document.querySelectorAll('#heat .chart svg').length === 1")


@pytest.mark.browser
def test_in_a_browser_a_filter_that_cannot_be_read_says_so(browser: Any) -> None:
    choose(browser, "filter", "seed == 1")
    for text, reason in (
        ("lrr < 1e-3", "there is no column lrr; did you mean lr?"),
        ("lr <", "a value is missing behind <"),
        ("lr < small", "small is not a number"),
        ("status > 'a'", "> compares numbers, and status holds texts"),
        ("(lr < 1", ") is missing behind 1"),
        ("lr < 1)", ") is not expected"),
        ("status == 'completed", "' is not expected"),
    ):
        choose(browser, "filter", text)
        message = browser.find_element("css selector", "[role=alert]").text
        assert "cannot be read" in message
        assert reason in message
        assert "4 of 13" in browser.find_element("id", "count").text
        assert evaluate(browser, "document.querySelector('#filter').ariaInvalid") == "true"
    choose(browser, "filter", "")
    assert browser.find_element("css selector", "[role=alert]").text == ""


@pytest.mark.browser
def test_in_a_browser_every_view_is_drawn(browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    assert evaluate(browser, count(BANDS)) == 4
    assert evaluate(browser, count(LINES)) == 4
    assert evaluate(browser, count(MARKS)) == 4 * 6
    browser.find_element("id", "bands").click()
    wait(browser, f"{count(LINES)} === 8")
    assert evaluate(browser, count(BANDS)) == 0
    assert evaluate(browser, count("#heat .mark-rect path")) == 4 + 1
    labels = evaluate(
        browser, "[...document.querySelectorAll('#heat [aria-label]')].map(e => e.ariaLabel)"
    )
    assert any(re.search(r"lr=0.001: [0-9.]+, 1 of 3 diverged$", label) for label in labels)
    assert evaluate(browser, count("#parallel .layer_0_marks path")) == 13
    slider = browser.find_element("id", "step")
    first = evaluate(browser, "document.querySelector('#samples td img').src")
    assert "600" in browser.find_element("id", "step-text").text
    slider.send_keys(keys.ARROW_LEFT)
    assert "400" in browser.find_element("id", "step-text").text
    assert evaluate(browser, "document.querySelector('#samples td img').src") != first
    assert f"{EVIL_NAME}: failed at step 600" in browser.find_element("id", "failures").text
    assert f"mode collapse {EVIL}" in browser.find_element("id", "failures").text
    pictures = "[...document.querySelectorAll('#samples img')].every(i => i.alt && i.naturalWidth)"
    wait(browser, pictures)


@pytest.mark.browser
def test_in_a_browser_the_pointer_shows_values(browser: Any) -> None:
    chains = pytest.importorskip("selenium.webdriver").ActionChains
    hint = browser.find_element("id", "hint")
    assert not hint.is_displayed()
    # Half of the way along a line, which need not be in the middle of the box around it.
    halfway = """
        const path = document.querySelector(arguments[0]), box = path.getBoundingClientRect();
        const point = path.getPointAtLength(path.getTotalLength() / 2)
            .matrixTransform(path.getScreenCTM());
        return [point.x - box.x - box.width / 2, point.y - box.y - box.height / 2].map(Math.round)
    """
    for selector, texts in (
        ("#curves .mark-line path", ["step 300", "0.1135", "hidden_dim=128, lr=0.001"]),
        ("#heat .mark-text text", ["median sliced_wasserstein", "runs"]),
        ("#parallel .layer_1_marks path", ["status", "completed"]),
    ):
        target = browser.find_element("css selector", selector)
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
        x, y = browser.execute_script(halfway, selector) if "path" in selector else (0, 0)
        chains(browser).move_to_element_with_offset(target, x, y).perform()
        wait(browser, "!document.querySelector('#hint').hidden")
        for text in texts:
            assert text in hint.text


@pytest.mark.browser
def test_in_a_browser_the_legend_switches_lines_off_and_on(browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    first = browser.find_element("css selector", "#curves .legend button")
    first.send_keys(keys.ENTER)
    wait(browser, f"{count(LINES)} === 3")
    # The focus stays, and not only the colour says what is off.
    again = browser.switch_to.active_element
    assert again.get_attribute("aria-pressed") == "false"
    assert "line-through" in again.value_of_css_property("text-decoration")
    again.send_keys(keys.SPACE)
    wait(browser, f"{count(LINES)} === 4")


@pytest.mark.browser
def test_in_a_browser_zooming_changes_the_axis_and_stays(browser: Any) -> None:
    webdriver = pytest.importorskip("selenium.webdriver")
    assert evaluate(browser, FIRST_STEP) == 100
    browser.find_element("id", "zoom-in").click()
    wait(browser, f"{FIRST_STEP} > 200")
    browser.find_element("css selector", "#curves .legend button").click()
    wait(browser, f"{count(LINES)} === 3")
    assert evaluate(browser, f"{FIRST_STEP} > 200")
    browser.find_element("id", "zoom-reset").click()
    wait(browser, f"{FIRST_STEP} === 100")
    chart = browser.find_element("css selector", "#curves .chart svg")
    origin = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(chart)
    actions = webdriver.ActionChains(browser).key_down(webdriver.Keys.CONTROL)
    actions.scroll_from_origin(origin, 0, -400).key_up(webdriver.Keys.CONTROL).perform()
    wait(browser, f"{FIRST_STEP} > 100")
    webdriver.ActionChains(browser).double_click(chart).perform()
    wait(browser, f"{FIRST_STEP} === 100")


@pytest.mark.browser
def test_in_a_browser_both_losses_are_in_one_chart(browser: Any) -> None:
    choose(browser, "curve-value", "losses of G and D")
    wait(browser, f"{count(LINES)} === 8")
    dashes = (
        f"[...document.querySelectorAll('{LINES}')].map(e => e.getAttribute('stroke-dasharray'))"
    )
    assert len(set(evaluate(browser, dashes))) == 2
    text = browser.find_element("css selector", "#curves .legend").text
    assert re.search(r"hidden_dim=128, lr=0.001\s+G [0-9.]+, D [0-9.]+", text)
    assert "Dashed: loss/discriminator" in browser.find_element("id", "curves-note").text


@pytest.mark.browser
def test_in_a_browser_lines_differ_in_colour_and_shape_and_follow_the_scheme(browser: Any) -> None:
    colours = f"[...document.querySelectorAll('{MARKS}')].map(e => getComputedStyle(e).fill)"
    shapes = f"[...document.querySelectorAll('{MARKS}')].map(e => e.getAttribute('d'))"
    light = set(evaluate(browser, colours))
    assert len(light) == len(set(evaluate(browser, shapes))) == 4
    assert all(colour.startswith("rgb") for colour in light)
    for scheme in ("dark", "light"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert (set(evaluate(browser, colours)) == light) == (scheme == "light")


@pytest.mark.browser
def test_in_a_browser_a_picture_is_enlarged_and_turned_by_keys(browser: Any) -> None:
    keys = pytest.importorskip("selenium.webdriver").Keys
    thumbnail = browser.find_element("css selector", "#samples td button")
    width = thumbnail.size["width"]
    thumbnail.send_keys(keys.ENTER)
    large = "document.querySelector('#picture img')"
    assert evaluate(browser, f"{large}.getBoundingClientRect().width") > 3 * width
    assert "step 600" in browser.find_element("id", "picture-title").text
    browser.switch_to.active_element.send_keys(keys.ARROW_LEFT)
    assert "step 400" in browser.find_element("id", "picture-title").text
    browser.find_element("id", "before").click()
    assert "step 200" in browser.find_element("id", "picture-title").text
    # The button was disabled, and the keys work all the same.
    browser.switch_to.active_element.send_keys(keys.ARROW_RIGHT)
    assert "step 400" in browser.find_element("id", "picture-title").text
    browser.switch_to.active_element.send_keys(keys.ESCAPE)
    assert not browser.find_element("id", "picture").is_displayed()


@pytest.mark.browser
def test_in_a_browser_a_narrow_window_scrolls_in_one_direction_only(browser: Any) -> None:
    narrow = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        browser.refresh()
        wait(browser, "document.querySelectorAll('.chart svg').length === 3")
        choose(browser, "filter", "lr < ")
        assert evaluate(browser, "document.documentElement.scrollWidth") <= 400
        evaluate(browser, "document.querySelector('#table td button').click()")
        dialog = "document.querySelector('#run')"
        assert evaluate(browser, f"{dialog}.scrollWidth - {dialog}.clientWidth") == 0
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.browser
def test_in_a_browser_runs_that_end_early_are_told_apart_from_others(
    chrome: Any, tmp_path: Path
) -> None:
    """Their pictures have their own steps, and their values count as far as they go."""
    for seed, points in ((0, 6), (1, 2), (2, 2)):
        for penalty in ("r1", "none"):
            status = "completed" if points == 6 else "interrupted"
            words: tuple[str, ...] = (f"penalty={penalty}", f"seed={seed}")
            words += ("penalty.gamma=7",) if penalty == "r1" else ()
            path = tmp_path / "runs" / f"{penalty}{seed}"
            make_run(
                path, *words, value=0.1 if points == 6 else 5, points=points, status=status, image=9
            )
    write_page(read_table([tmp_path / "runs"]), tmp_path / "page.html", "early")
    chrome.get((tmp_path / "page.html").as_uri())
    wait(chrome, "document.querySelectorAll('.chart svg').length === 3")
    legend = chrome.find_element("css selector", "#curves .legend").text
    assert legend.count("at step 200") == 2
    assert "of the others" in chrome.find_element("id", "curves-note").text
    heat = evaluate(chrome, "document.querySelector('#heat svg').textContent")
    assert "5" not in re.findall(r"[\d.]+", heat)
    choose(chrome, "sample-columns", "penalty")
    choose(chrome, "sample-seed", "1")
    alts = evaluate(chrome, "[...document.querySelectorAll('#samples td img')].map(i => i.alt)")
    assert [alt.rpartition("at ")[2] for alt in alts] == ["step 200", "step 200"]
    # A run whose penalty has no gamma is drawn like the others.
    labels = "[...document.querySelectorAll('#parallel [aria-label]')].map(e => e.ariaLabel)"
    drawn = {re.sub(":.*", "", label) for label in evaluate(chrome, labels) if ": sliced" in label}
    assert drawn == {f"{penalty}{seed}" for penalty in ("r1", "none") for seed in range(3)}


@pytest.mark.browser
def test_in_a_browser_values_that_look_alike_have_cells_of_their_own(
    chrome: Any, tmp_path: Path
) -> None:
    for number, lr in enumerate(("1.2344e-4", "1.2336e-4")):
        make_run(tmp_path / f"runs/{number}", f"optimizer.lr={lr}", value=number, image=9)
    make_run(tmp_path / "alone", image=9)
    for folder, cells in (("runs", 2), ("alone", 0)):
        write_page(read_table([tmp_path / folder]), tmp_path / "page.html", "alike")
        chrome.get((tmp_path / "page.html").as_uri())
        wait(chrome, "document.querySelectorAll('#curves .chart svg').length === 1")
        heat = evaluate(chrome, "document.querySelector('#heat .chart').textContent")
        assert ("0.00012344" in heat and "0.00012336" in heat) == bool(cells)
        # Samples are shown where runs differ in nothing, too.
        wait(chrome, "document.querySelectorAll('#samples td img').length > 0")


@pytest.mark.browser
def test_in_a_browser_a_single_measured_value_is_seen(chrome: Any, tmp_path: Path) -> None:
    make_run(tmp_path / "run", points=1)
    write_page(read_table([tmp_path / "run"]), tmp_path / "page.html", "one value")
    chrome.get((tmp_path / "page.html").as_uri())
    wait(chrome, f"{count(MARKS)} === 1")


@pytest.mark.browser
def test_in_a_browser_nothing_is_loaded_and_nothing_goes_wrong(chrome: Any, page: Path) -> None:
    assert chrome.get_log("browser") == []
    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in chrome.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    others = [url for url in requests if not url.startswith(("file:", "data:"))]
    assert others == []
    assert any(url.endswith("page.html") for url in requests)
    # Names of runs were shown in every view, and none of them was taken for markup.
    chrome.get(page.as_uri())
    assert chrome.title == "a study"
