"""Where benchmarks find what is measured, and where their figures go."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "bundles" / "cifar10"
SAMPLES = ROOT / "serving" / "page" / "samples"
IMAGE = SAMPLES / "ship.png"
DOCS = ROOT / "docs"
MEASURED = DOCS / "measured"
