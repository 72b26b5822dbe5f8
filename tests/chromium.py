"""A browser for tests, where one is installed."""

import shutil
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "headless",
    "no-sandbox",
    "disable-gpu",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "no-first-run",
    "window-size=1300,1000",
)


def chromium(profile: Path) -> Any:
    """A headless Chromium that logs what pages complain of and ask for; the test is skipped
    where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    paths = [
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    ]
    if None in paths:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(paths[1]))
