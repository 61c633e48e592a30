"""The service's settings: one frozen dataclass, filled from ``OODGATE_*`` environment variables.

What each one means to an operator is told in docs/operations.md.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.engines.interface import EngineName
from runtime.preprocess import Limits
from serving.exceptions import SettingsError

_ROOT = Path(__file__).resolve().parent.parent
_DEFAULTS = Limits()
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """The cores that the scheduler allows, or fewer where a container's quota (cgroup v2) is less; at least one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = quota.read_text().split()
        return max(1, min(allowed, int(limit) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no limit, which reads "max"
        return allowed


# Boundaries and part headers of a multipart body, beside the image itself.
OVERHEAD = 64 * 1024

TUNED = frozenset({"engine_threads", "engine_calls", "max_batch", "batch_wait_ms"})
"""What is chosen by measurement where it is not set."""

_CORES = cores()
_WORKERS = max(1, _CORES // 4)


def _of_cores(workers: int) -> dict[str, int]:
    """What a worker's share of the cores suggests where it is not set."""
    share = max(1, _CORES // workers)
    return {"engine_calls": max(1, share // 2), "decode_threads": share}


# What Kubernetes sets in every pod beside a Service that is called oodgate, or oodgate-anything. By its name alone
# OODGATE_PORT might be somebody's wish for a port; Kubernetes' is an address.
_KUBERNETES = re.compile(
    r"OODGATE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*"
    r"|OODGATE_(\w+_)?PORT=(tcp|udp|sctp)://.*"
)

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _at_least(smallest: int, default: int) -> int:
    return field(default=default, metadata={"smallest": smallest})


@dataclass(frozen=True)
class Settings:
    """Each field is set by the variable ``OODGATE_`` and its name in capitals; limits hold for each worker.

    Attributes:
        bundle: directory of the bundle to serve.
        alpha: the operating point to serve, one of the bundle's; its default one otherwise.
        engine: what runs the model; ``auto`` takes the best that works.
        reload: seconds between looks at the bundle's files, which are loaded when they were replaced; 0 never looks.
        shadow: directory of a bundle that decides on the same images, unheard; empty for none.
        workers: processes, each with a model of its own.
        tune: whether what suits the engine here is measured at the start (:mod:`serving.deciding.tuning`).
        engine_threads: threads of one engine call; 0 takes one for each physical core.
        engine_calls: batches that the engine runs at the same time.
        decode_threads: images decoded at the same time.
        max_batch: most images of one engine call; 0: as many as suit the engine.
        batch_wait_ms: how long an image may wait for others to fill its batch.
        max_queue: images in hand, beyond which requests are refused with 503.
        max_bulk: the same for images of requests of several.
        max_concurrency: requests in progress, beyond which requests are refused with 429.
        max_connections: open connections, beyond which new ones are refused with 503.
        timeout: seconds from a request's body to its decision.
        header_timeout, body_timeout: seconds that a client may take to send them.
        keep_alive: seconds that a connection without a request stays open.
        max_bytes, max_pixels: bounds on one image, checked before it is decoded.
        max_images: bound on the images of one request.
        max_body: bound on the bytes of a request of several images.
        body_memory: bytes of all bodies in hand, beyond which requests are refused with 503.
        api_keys: SHA-256 of the keys that are let in; none lets everybody in.
        cors_origins: origins whose pages may use the service; ``*`` for all.
        access_log: whether to log one JSON line a request.
        monitor: whether to log decisions with ``bentoml.monitor``.
        tracing: whether to record OpenTelemetry spans.
        drift_images, drift_seconds: how far back the drift window reaches.
        drift_false_alarm: in-distribution images to a false alarm of drift, on average, at least.
        outcomes: decisions that are remembered until their labels come; 0 remembers none.
        outcomes_days: how long.
        rejects: directory or URL where rejected images are kept; empty keeps none.
        rejects_percent: the share of them that is kept, by chance.
        rejects_bytes, rejects_days: bounds on what is kept.
        given: names of the fields that the environment set; no variable itself.
    """

    bundle: Path = _ROOT / "bundles" / "cifar10"
    alpha: float | None = None
    engine: EngineName = "auto"
    reload: int = _at_least(0, 1)
    shadow: str = ""
    workers: int = _WORKERS
    tune: bool = True
    engine_threads: int = _at_least(0, 1)
    engine_calls: int = _of_cores(_WORKERS)["engine_calls"]
    decode_threads: int = _of_cores(_WORKERS)["decode_threads"]
    max_batch: int = _at_least(0, 0)
    batch_wait_ms: int = _at_least(0, 0)
    max_queue: int = 64
    max_bulk: int = 512
    max_concurrency: int = 128
    max_connections: int = 1024
    timeout: int = 10
    header_timeout: int = 10
    body_timeout: int = 30
    keep_alive: int = 5
    max_bytes: int = _DEFAULTS.max_bytes
    max_pixels: int = _DEFAULTS.max_pixels
    max_images: int = 64
    max_body: int = 64 * 1024 * 1024
    body_memory: int = 512 * 1024 * 1024
    api_keys: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    access_log: bool = False
    monitor: bool = False
    tracing: bool = False
    drift_images: int = 10_000
    drift_seconds: int = 3600
    drift_false_alarm: int = _at_least(2, 10_000_000)
    outcomes: int = _at_least(0, 100_000)
    outcomes_days: int = 7
    rejects: str = ""
    rejects_percent: int = 100
    rejects_bytes: int = 1 << 30
    rejects_days: int = 30
    given: frozenset[str] = frozenset()

    @property
    def limits(self) -> Limits:
        """What one image may cost."""
        return Limits(self.max_bytes, self.max_pixels)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables that are set.

        Raises:
            SettingsError: a value of another kind than the field's, or an unknown ``OODGATE_`` variable.
        """
        fields = {f"OODGATE_{one.name.upper()}": one for one in variables()}
        kinds = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for variable, text in environment.items():
            if not variable.startswith("OODGATE_") or _KUBERNETES.fullmatch(f"{variable}={text}"):
                continue
            if variable not in fields:
                raise SettingsError(f"{variable} is no setting; there are {', '.join(sorted(fields))}")
            setting = fields[variable]
            values[setting.name] = _parse(variable, text, kinds[setting.name], setting.metadata.get("smallest", 1))
        # A secret that arrived empty must not open the service to everybody.
        if "api_keys" in values and not (values["api_keys"] and all(map(_SHA256.fullmatch, values["api_keys"]))):
            raise SettingsError("OODGATE_API_KEYS must be SHA-256 digests in hexadecimal: python -m serving.keys")
        if values.get("rejects_percent", 0) > 100:
            raise SettingsError(f"OODGATE_REJECTS_PERCENT must be from 1 to 100, found {values['rejects_percent']}")
        settings = cls(**{**_of_cores(values.get("workers", _WORKERS)), **values}, given=frozenset(values))
        largest = max(settings.max_body, settings.max_bytes + OVERHEAD)
        if settings.body_memory < 2 * largest:
            raise SettingsError(
                f"OODGATE_BODY_MEMORY must be at least {2 * largest}, twice the largest body that OODGATE_MAX_BODY and "
                f"OODGATE_MAX_BYTES allow, as a client may hold half of it; found {settings.body_memory}"
            )
        return settings


def variables() -> list[dataclasses.Field[Any]]:
    """The fields that are settings."""
    return [one for one in dataclasses.fields(Settings) if one.name != "given"]


def _parse(variable: str, text: str, kind: Any, smallest: int) -> Any:
    if kind is Path:
        return Path(text)
    if kind == EngineName:
        if text not in typing.get_args(EngineName):
            raise SettingsError(f"{variable} must be one of {', '.join(typing.get_args(EngineName))}, found {text!r}")
        return text
    if kind is str:
        return text
    if kind is bool:
        if text not in ("0", "1"):
            raise SettingsError(f"{variable} must be 0 or 1, found {text!r}")
        return text == "1"
    if kind == float | None:
        return _share(variable, text)
    if kind is int:
        return _number(variable, text, smallest)
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _number(variable: str, text: str, smallest: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = smallest - 1
    if number < smallest:
        raise SettingsError(f"{variable} must be a whole number of at least {smallest}, found {text!r}")
    return number


def _share(variable: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise SettingsError(f"{variable} must be a number between 0 and 1, found {text!r}")
    return share
