"""KServe's model server, as its documentation shows it: a custom model, the image in base64 in the V1 protocol.

BUNDLE=bundles/cifar10 python -m benchmarks.peers.kserve_model --http_port 8000
"""

from __future__ import annotations

import base64
from typing import Any

from kserve import Model, ModelServer

from benchmarks.peers.work import Work


class Gate(Model):  # type: ignore[misc]  # kserve is installed in an environment of its own
    """Decides on the images of a request."""

    def __init__(self) -> None:
        super().__init__("gate")
        self._work = Work()
        self.ready = True

    def predict(self, payload: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        images = (base64.b64decode(instance["image"]["b64"]) for instance in payload["instances"])
        return {"predictions": [self._work.decide(image) for image in images]}


if __name__ == "__main__":
    ModelServer(enable_grpc=False).start([Gate()])
