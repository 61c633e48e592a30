"""A plain BentoML endpoint, as its documentation shows it: an image in, a dictionary out.

BUNDLE=bundles/cifar10 bentoml serve benchmarks.peers.plain_bentoml:Plain
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import onnxruntime as ort
from PIL.Image import Image

from runtime.bundle import Bundle
from runtime.preprocess import fit


@bentoml.service(name="plain")
class Plain:
    """Decodes and runs the same graph."""

    def __init__(self) -> None:
        bundle = Bundle.load(Path(os.environ["BUNDLE"]))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._spec = bundle.manifest.input
        self._session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])

    @bentoml.api
    def classify(self, image: Image, /) -> dict[str, Any]:
        """Logits, scores and verdict of one image."""
        images = fit(image.convert("RGB"), self._spec)[np.newaxis]
        logits, scores, accept = self._session.run(["logits", "scores", "accept"], {"images": images})
        return {"class": int(logits.argmax()), "scores": scores[0].tolist(), "accept": bool(accept[0])}
