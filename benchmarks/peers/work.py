"""What every peer does with an image: decode it as the product does, run the same graph, and make the same decision."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from runtime.bundle import MODEL, Bundle
from runtime.preprocess import preprocess


class Work:
    """ONNX Runtime with one thread on the bundle that the environment's BUNDLE names."""

    def __init__(self) -> None:
        bundle = Bundle.load(Path(os.environ["BUNDLE"]))
        self._manifest, gate = bundle.manifest, bundle.manifest.gate
        assert gate is not None
        self._gate = gate
        self._calibration = gate.calibration.quantiles[gate.score]  # every score, as there are few enough
        self._temperature = self._manifest.confidence.temperature if self._manifest.confidence else 1.0
        self._model = {"name": self._manifest.model.name, "sha256": self._manifest.files[MODEL].sha256}
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])

    def decide(self, data: bytes) -> dict[str, Any]:
        """The decision on one image file."""
        images = preprocess(data, self._manifest.input)[None]
        logits, scores, accept = self._session.run(["logits", "scores", "accept"], {"images": images})
        exponentials = np.exp((logits[0] - logits.max()) / self._temperature)
        top, accepted = int(logits.argmax()), bool(accept[0])
        values = dict(zip(self._manifest.scores, scores[0].tolist(), strict=True))
        value = values[self._gate.score]
        return {
            "decision": "accept" if accepted else "reject",
            "is_ood": not accepted,
            "label": self._manifest.labels[top] if accepted else None,
            "class_index": top,
            "confidence": float(exponentials[top] / exponentials.sum()),
            "score": {
                "name": self._gate.score,
                "value": value,
                "threshold": self._gate.threshold,
                "p_value": (1 + bisect_right(self._calibration, value)) / (len(self._calibration) + 1),
            },
            "scores": values,
            "model": self._model,
        }
