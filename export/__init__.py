"""From a trained classifier to a calibrated bundle."""

import runtime  # noqa: F401  # before ONNX Runtime, whose telemetry it switches off
from runtime.command import explain_missing

explain_missing("export")
