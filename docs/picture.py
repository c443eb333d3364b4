"""Writes docs/report.png: the report of `make demo`, as Chromium shows it. Trains the example where nothing has yet."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import tuneport

HERE = Path(__file__).parent
CONFIG = HERE.parent / "examples" / "tickets" / "tune.yaml"
WIDTH, HEIGHT = 1200, 1000
NAMES = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    """Train the example, or find the training that is there, and take the picture of its report."""
    browser = os.environ.get("TUNEPORT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        print("docs/report.png was not written: Chromium is not installed. Set TUNEPORT_CHROMIUM to its path.")
        return 0
    from playwright.sync_api import sync_playwright

    result = tuneport.run(CONFIG)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = tuneport.report(result.job.ref, Path(folder) / "report.html")
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.screenshot(path=HERE / "report.png")
        chromium.close()
    print("wrote docs/report.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
