"""The bundle in service, and its replacement while requests go on."""

from __future__ import annotations

import asyncio
import functools
import logging
from pathlib import Path

from anyio import to_thread

from runtime import Gate
from runtime.bundle import MANIFEST, MODEL, Bundle, read_manifest
from runtime.engines import selection
from runtime.engines.interface import EngineOptions
from runtime.exceptions import EngineError, OodgateError
from runtime.golden.document import read
from runtime.golden.replay import replay
from serving.deciding.decider import Decider
from serving.deciding.listeners import Listeners
from serving.deciding.served import Served
from serving.deciding.shadow import Shadow
from serving.deciding.tuning import tuned
from serving.metrics import metrics
from serving.settings import Settings

logger = logging.getLogger("oodgate")


class Deployment:
    """Serves a bundle from its making, on the running event loop, to :meth:`close`.

    Every worker has one and looks at the bundle's files by itself. A bundle that replaced another is loaded, verified and
    warmed up beside it, then takes its place for all requests that come from then on; those in progress keep the one that
    they came with. A bundle that can't be served is refused, and the old one serves on.

    Args:
        settings: of the bundles and everything else.

    Attributes:
        decider: decides with the bundle in service.
        listeners: hear of its decisions.
        tuning: how the engine is run, which a bundle that is swapped in keeps to.

    Raises:
        OodgateError: the bundle must not be served, or the settings ask for what can't be had.
    """

    def __init__(self, settings: Settings) -> None:
        self._seen = fingerprint(settings.bundle)
        bundle = Bundle.load(settings.bundle)
        gate, settings, self.tuning = tuned(bundle, settings, lambda chosen: _gate(bundle, chosen))
        _check(gate)
        self._settings = settings
        self._shadow = Shadow(_load(Path(settings.shadow), settings), settings) if settings.shadow else None
        self.listeners = Listeners.start(gate, settings)
        self.decider = Decider(self._served(gate, self.listeners), settings)
        self._retiring: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._looking = asyncio.ensure_future(self._look_on())
        _count(gate, 1)
        logger.info("serving %s on %s", settings.bundle, gate.engine.name)

    async def look(self) -> None:
        """Reload the bundle if its files were replaced since the last look."""
        seen = await to_thread.run_sync(fingerprint, self._settings.bundle)
        if seen is None or seen == self._seen:
            return
        try:
            gate = await to_thread.run_sync(_load, self._settings.bundle, self._settings)
            if gate.manifest.files == self.decider.gate.manifest.files:
                self._seen = seen  # written again, and the same
                return
            listeners = await to_thread.run_sync(Listeners.start, gate, self._settings)
        except Exception as error:  # whatever is wrong with the new bundle, the old one serves on
            if await to_thread.run_sync(fingerprint, self._settings.bundle) == seen:  # else it was replaced meanwhile
                self._seen = seen
                metrics().reload("refused")
                logger.error(
                    "the new bundle is refused, the old one serves on: %s",
                    error,
                    exc_info=not isinstance(error, OodgateError),
                )
            return
        self._seen = seen
        self._swap(gate, listeners)

    async def close(self) -> None:
        """Finish what is queued, write down what is still to be written, and end the threads."""
        self._stop.set()
        await self._looking
        await self.decider.close()
        await asyncio.gather(*self._retiring)
        await to_thread.run_sync(self.listeners.close)
        if self._shadow:
            await to_thread.run_sync(self._shadow.close)

    def _served(self, gate: Gate, listeners: Listeners) -> Served:
        return Served(gate, (*listeners.each, self._shadow) if self._shadow else listeners.each)

    def _swap(self, gate: Gate, listeners: Listeners) -> None:
        """For all requests from now on; in one turn of the event loop."""
        old = asyncio.ensure_future(_retire(self.decider.served, self.listeners))
        self._retiring.add(old)
        old.add_done_callback(self._retiring.discard)
        _count(self.decider.gate, 0)
        _count(gate, 1)
        self.decider.served, self.listeners = self._served(gate, listeners), listeners
        metrics().reload("swapped")
        logger.info("serving %s, model %s", self._settings.bundle, _sha256(gate))

    async def _look_on(self) -> None:
        if self._settings.reload == 0:
            return
        while not self._stop.is_set():
            try:
                await asyncio.wait_for(self._stop.wait(), self._settings.reload)
            except TimeoutError:  # the builtin one from Python 3.11 on
                await self.look()


State = tuple[int, int, int]  # of a file: its inode, time and size
Fingerprint = tuple[State | None, ...]


def fingerprint(bundle: Path) -> Fingerprint | None:
    """What differs when a file that a bundle's manifest lists was replaced, added or written to, or the manifest itself; None
    while there is no manifest or no model."""
    manifest, model = _state(bundle / MANIFEST), _state(bundle / MODEL)
    if manifest is None or model is None:
        return None
    return manifest, *(_state(bundle / name) for name in _listed(bundle, manifest))


def _state(path: Path) -> State | None:
    try:
        file = path.stat()
    except OSError:
        return None
    return file.st_ino, file.st_mtime_ns, file.st_size


@functools.lru_cache(maxsize=1)
def _listed(bundle: Path, state: State) -> tuple[str, ...]:  # noqa: ARG001  which of its states is read
    """The files of a manifest; the model alone of one that can't be read."""
    try:
        return tuple(sorted(read_manifest(bundle).files))
    except OodgateError:
        return (MODEL,)


def _load(bundle: Path, settings: Settings) -> Gate:
    gate = _gate(Bundle.load(bundle), settings)
    _check(gate)
    return gate


def _gate(bundle: Bundle, settings: Settings) -> Gate:
    options = EngineOptions(settings.engine, settings.engine_threads, contexts=settings.engine_calls)
    gate = Gate(bundle, selection.load(bundle, options), settings.limits, alpha=settings.alpha)
    gate.warm_up()
    return gate


def _check(gate: Gate) -> None:
    """Replay the bundle's golden images, if it has any.

    Raises:
        EngineError: one fails, and at which stage.
    """
    if (golden := read(gate.bundle)) is None:
        logger.info("%s has no golden images to check the engine by", gate.bundle.path)
        return
    report = replay(gate, golden)
    if report.faults:
        raise EngineError(f"{report}; {report.faults[0]}")
    logger.info("%s", report)


def _count(gate: Gate, workers: int) -> None:
    metrics().bundle("served", gate.manifest.model.name, _sha256(gate), workers)


def _sha256(gate: Gate) -> str:
    """Of the model, which has the manifest inside."""
    return gate.manifest.files[MODEL].sha256


async def _retire(served: Served, listeners: Listeners) -> None:
    """Stop to listen when the last request that came before the swap has its answer."""
    await served.unused()
    await to_thread.run_sync(listeners.close)
