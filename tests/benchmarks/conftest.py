"""The sources, checkpoint and bundle that the exports' tests share."""

from __future__ import annotations

from tests.export.conftest import checkpoint_file, exported, exported_copy, sources, uncalibrated  # noqa: F401
