"""What the service leans on of its libraries beyond what they document: all of it, each with the reason.

tests/serving/test_internals.py tells by name what is gone when a library has moved.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn.config
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# uvicorn documents no way to bound connections, or how long a client may take to send; an application only hears of a
# request when its headers are complete. :mod:`serving.http.connections` extends this class.
HttpProtocol = HttpToolsProtocol


def use_http_protocol(protocol: type[HttpToolsProtocol]) -> None:
    """Make it the HTTP protocol of the uvicorn servers that this process configures from now on.

    BentoML makes uvicorn's configuration itself and leaves the protocol at "auto", which this table resolves; no option of
    BentoML's and no variable of uvicorn's reaches it.
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{protocol.__module__}:{protocol.__name__}"


def switch_tracking_off() -> None:
    """Keep BentoML from telling its makers of this service, unless the environment says otherwise.

    Its command has looked at the variable before it loads a service, and keeps what it saw.
    """
    from bentoml._internal.utils.analytics import usage_stats

    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    usage_stats.do_not_track.cache_clear()


def is_worker() -> bool:
    """Whether this process is one of BentoML's workers, by the option that circus starts them with."""
    return "--worker-id" in sys.argv


def number_worker(number: int) -> None:
    """Have ``bentoml.monitor`` write to files of this worker's own, which are named for its number.

    BentoML numbers the workers that it starts itself, and takes all others for one: they would share a file, of which each
    takes the day's records away from the others when it begins the next day's.
    """
    from bentoml._internal.context import server_context

    server_context.worker_index = number


def hear_of_ended_workers(heard: Callable[[int, int], None]) -> None:
    """Have `heard` called, in the process that starts the workers, with the number and exit code of each that has ended.

    BentoML hands circus no hooks, and circus says nothing by itself. The code is minus the signal that ended it.
    """
    from bentoml import serving

    make = serving.create_watcher

    def hook(*, process_pid: int, exit_code: int, **_: Any) -> None:
        heard(process_pid, exit_code)

    def create_watcher(*args: Any, **options: Any) -> Any:
        return make(*args, hooks={"after_reap": (hook, True)}, **options)

    serving.create_watcher = create_watcher


def monitor_directory() -> Path:
    """Where ``bentoml.monitor`` writes by default; relative to the directory that is served."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    return Path(BentoMLContainer.config.monitoring.options.log_path.get())


def tracer_provider() -> Any:
    """OpenTelemetry's tracer provider, as BentoML's configuration describes it.

    BentoML neither hands it out nor makes it OpenTelemetry's global one.
    """
    from bentoml._internal.configuration.containers import BentoMLContainer

    return BentoMLContainer.tracer_provider.get()


def route_template(scope: Scope) -> str:
    """The path of the route that answers a request, with its parameters' names in place of their values.

    Starlette's router leaves the route in the scope, for which it has no documented name.
    """
    return getattr(scope.get("route"), "path", "unmatched")


def live_gauge_processes(directory: Path) -> Iterator[str]:
    """The numbers of the processes that left live gauges in prometheus_client's directory, with repetition.

    The library leaves it to a parent process to say who died, and BentoML's does not.
    """
    return (file.stem.rpartition("_")[2] for file in directory.glob("gauge_live*_*.db"))
