"""The BentoML service: ``bentoml serve`` at the repository's root finds it; ``OODGATE_BUNDLE`` picks the bundle.

The routes live in a plain Starlette application (:mod:`serving.app`), because BentoML's own image endpoints build a
pydantic schema for every response and record several spans a request. BentoML keeps the process, the workers, the
probes and /metrics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime import Gate
from runtime.bundle import Bundle
from runtime.exceptions import OodgateError
from serving.app import create_app
from serving.settings import Settings

_BENTOML_PATHS = ("/livez", "/readyz", "/healthz", "/metrics", "/schema.json", "/docs.json", "/static_content/")


def _checked_settings() -> Settings:
    """Settings and bundle, checked when the service is imported: a bad one ends `bentoml serve` with one line."""
    try:
        settings = Settings.from_environment()
        gate = Bundle.load(settings.bundle).manifest.gate
        if gate and settings.alpha is not None:
            gate.at(settings.alpha)
    except OodgateError as error:
        raise BentoMLException(str(error)) from None
    return settings


app = create_app(_checked_settings())


class OwnRoutesFirst:
    """Sends every request to our application but those for BentoML's own paths, ahead of BentoML's router."""

    def __init__(self, bentoml_app: ASGIApp, own: Starlette) -> None:
        self.bentoml_app = bentoml_app
        self.own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and not scope["path"].startswith(_BENTOML_PATHS)
        await (self.own if ours else self.bentoml_app)(scope, receive, send)


@bentoml.service(
    name="oodgate",
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(app, path="/")
class OodGate:
    """Classifies an image, or rejects it as out of distribution."""

    @bentoml.api  # type: ignore[untyped-decorator]
    def classify(self, image: Path) -> dict[str, Any]:
        """Decide on one image; what BentoML's clients and dependent services call.

        Over HTTP the route /classify answers in its place, with the same JSON.
        """
        gate: Gate = app.state.gate.gate
        (decision,) = gate.decide([image])
        return decision.to_dict()

    async def __is_ready__(self) -> bool:
        return app.state.gate is not None


cast("bentoml.Service[OodGate]", OodGate).add_asgi_middleware(OwnRoutesFirst, own=app)
