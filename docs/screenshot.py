"""Takes the README's picture of the page: python docs/screenshot.py (needs `pip install playwright` and Chromium).

Starts the service on the shipped bundle, drops two of the sample images and writes docs/page.png.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ("honeycomb.png", "ship.png")  # the newest card comes first
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def wait_until_ready(url: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{url}/readyz"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise SystemExit("error: the service did not become ready")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=3901)
    args = parser.parse_args()
    command = [Path(sys.executable).with_name("bentoml"), "serve", "--host", "127.0.0.1", "--port", str(args.port)]
    service = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "BENTOML_DO_NOT_TRACK": "True"})
    url = f"http://127.0.0.1:{args.port}"
    try:
        wait_until_ready(url)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=args.chromium, args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1100, "height": 2010})
            page.goto(url)
            files = [str(ROOT / "serving" / "page" / "samples" / name) for name in SAMPLES]
            for file in files:
                page.set_input_files("#files", file)
                page.wait_for_selector(f"article[aria-label='{Path(file).name}']:not([data-state=pending])")
            page.wait_for_selector("#rate:not([hidden])")
            page.wait_for_timeout(500)  # animations
            page.screenshot(path=ROOT / "docs" / "page.png")
            browser.close()
    finally:
        service.terminate()
        service.wait(timeout=30)


if __name__ == "__main__":
    main()
