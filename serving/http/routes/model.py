"""The route that tells of the model in service: what clients and the page need of its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

import runtime
from runtime import Gate
from runtime.bundle import MODEL
from runtime.engines.selection import computed_precision
from runtime.manifest import GateSpec
from serving.http.errors import JsonResponse

_BINS = 48  # as few as a picture takes

_PUBLIC = (
    "schema_version",
    "model",
    "task",
    "labels",
    "input",
    "scores",
    "score_parameters",
    "merged",
    "gate",
    "confidence",
)


async def _model(request: Request) -> Response:
    listeners = request.app.state.deployment.listeners
    gate: Gate = request.app.state.decider.gate
    manifest = gate.manifest.to_dict()
    return JsonResponse(
        {
            **{name: manifest[name] for name in _PUBLIC},
            "sha256": gate.manifest.files[MODEL].sha256,
            "engine": gate.engine.name,
            "engine_precision": computed_precision(gate.manifest, gate.engine),
            "tuning": dataclasses.asdict(request.app.state.deployment.tuning),
            "version": runtime.__version__,
            "calibration_histogram": calibration_histogram(gate.spec),
            "drift": listeners.drift.report().to_dict(),
            "keeps_rejects": listeners.rejects is not None,
        }
    )


def calibration_histogram(gate: GateSpec) -> dict[str, Any]:
    """How many calibration images have which gate score.

    Where not every order statistic is stored, the images between two of them count with the upper one.

    Returns:
        `edges` (B + 1), ascending; `counts` (B), of all calibration images; `classes`, such counts for each label with
        a threshold of its own, of the images predicted as it.
    """
    calibration = gate.calibration
    quantiles = calibration.quantiles[gate.score]
    edges = np.histogram_bin_edges(quantiles, _BINS)
    own = {label: calibration.classes[label] for label in gate.classes}
    return {
        "edges": edges.tolist(),
        "counts": _counts(calibration.ranks, quantiles, edges),
        "classes": {label: _counts(of.ranks, of.quantiles, edges) for label, of in own.items()},
    }


def _counts(ranks: Sequence[int], quantiles: Sequence[float], edges: npt.NDArray[np.float64]) -> list[int]:
    images = np.diff(ranks, prepend=0)
    counts: list[int] = np.histogram(quantiles, edges, weights=images)[0].tolist()
    return counts


ROUTES: list[BaseRoute] = [Route("/model", _model)]
