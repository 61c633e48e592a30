"""Takes the README's picture of the page: python -m benchmarks.screenshot (needs Chromium).

Starts the service on the shipped bundle, drops two of the sample images and writes docs/page.png.
"""

from __future__ import annotations

import argparse

from playwright.sync_api import sync_playwright

from benchmarks.paths import BUNDLE, DOCS, SAMPLES
from benchmarks.servers import product

SHOWN = ("honeycomb.png", "ship.png")  # the newest card comes first
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="default: %(default)s")
    args = parser.parse_args()
    with product(BUNDLE) as (url, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1100, "height": 800})
        page.goto(url)
        for name in SHOWN:
            page.set_input_files("#files", str(SAMPLES / name))
            page.wait_for_selector(f"article[aria-label='{name}']:not([data-state=pending])")
        page.wait_for_selector("#rate:not([hidden])")
        page.wait_for_timeout(500)  # animations
        page.screenshot(path=DOCS / "page.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
