"""The BentoML service: ``bentoml serve`` at the repository's root finds it; ``OODGATE_BUNDLE`` picks the bundle.

The routes live in a plain Starlette application (:mod:`serving.http.app`), because BentoML's own image endpoints build a
pydantic schema for every response and record several spans a request. BentoML keeps the processes, their options and
Bentos; no request passes its middlewares.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import BentoMLException
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.exceptions import ImageError, OodgateError
from serving.application import behind_guards
from serving.deciding.decider import Caller, Decider
from serving.http.app import create_app
from serving.http.errors import image_error
from serving.internals import hear_of_ended_workers, is_worker, switch_tracking_off
from serving.process.checks import checked_settings
from serving.process.server import set_levels
from serving.process.workers import log_end
from serving.settings import Settings


def _checked_settings() -> Settings:
    """Settings, bundle and GPU, checked when the service is imported: a bad one ends `bentoml serve` with one line."""
    try:
        return checked_settings()
    except OodgateError as error:
        raise BentoMLException(str(error)) from None


set_levels()
switch_tracking_off()
if not is_worker():  # which would import circus for nothing
    hear_of_ended_workers(log_end)

settings = _checked_settings()
app = create_app(settings)


class Switch:
    """Sends every request to our application, and starts and stops BentoML's, which starts and stops ours."""

    def __init__(self, bentoml_app: ASGIApp, own: ASGIApp) -> None:
        self._bentoml = bentoml_app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._own if scope["type"] == "http" else self._bentoml)(scope, receive, send)


class Guarded(bentoml.Service[Any]):  # type: ignore[misc]
    """A BentoML service whose requests are ours first."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """What uvicorn runs."""
        return behind_guards(Switch(super().to_asgi(is_main), app), app, settings)


@bentoml.service(
    name="oodgate",
    service_class=Guarded,
    workers=settings.workers,
    traffic={"timeout": 3600},  # ours is far below
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": [".*"]},
)
@bentoml.asgi_app(app, path="/")
class OodGate:
    """Classifies an image, or rejects it as out of distribution."""

    @bentoml.api  # type: ignore[untyped-decorator]
    async def classify(self, image: Path) -> dict[str, Any]:
        """Decide on one image; what BentoML's clients and dependent services call.

        Over HTTP the route /classify answers in its place, with the same JSON.
        """
        decider: Decider = app.state.decider
        with decider.using() as use:
            decision = await decider.decide(image.read_bytes(), Caller("", _never), use)
        return decision.to_dict()

    @bentoml.api  # type: ignore[untyped-decorator]
    async def classify_batch(self, images: list[Path]) -> dict[str, Any]:
        """Decide on several images; what BentoML's clients and dependent services call, as :meth:`classify`."""
        decider: Decider = app.state.decider
        with decider.using() as use:
            results = await decider.decide_each([image.read_bytes() for image in images], Caller("", _never), use)
        return {"results": [image_error(one) if isinstance(one, ImageError) else one.to_dict() for one in results]}

    async def __is_ready__(self) -> bool:
        return app.state.decider is not None


async def _never() -> None:
    """The caller is in this process."""
    await asyncio.Event().wait()
