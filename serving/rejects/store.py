"""The store: one image and one record a reject, whole or not at all, bounded in bytes and in age."""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from runtime import schema
from serving.exceptions import RejectNotFound
from serving.rejects.files import FileInfo, Files
from serving.rejects.image_type import suffix_of

_ID = re.compile(r"[0-9]{13}-[0-9a-f]{12}")
_FOLDER = re.compile(r"\d{4}-\d\d-\d\d")
_RECORD = ".json"
_ABANDONED = 600.0  # seconds after which a file without a record is what a killed process left
_CHECKS = 32  # how finely the bound on bytes is kept
_CLEAN_EVERY = 3600.0  # seconds, for the bound on age


@dataclass(frozen=True)
class StoreLimits:
    """What is kept.

    Attributes:
        max_bytes: of all files; the oldest rejects go first. Every worker may overshoot by a 32nd of it.
        max_age: seconds.
    """

    max_bytes: int = 1 << 30
    max_age: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        if self.max_bytes < 1 or not self.max_age > 0:
            raise ValueError(f"a store keeps at least a byte for some time, found {self.max_bytes}, {self.max_age} s")


@dataclass(frozen=True)
class Reject:
    """The record of a rejected image.

    Attributes:
        id: of this store's making; ascending in time.
        time: seconds since the epoch.
        request_id: of the request that brought it; a client may have chosen it.
        predicted: the most probable class, which the image was not given.
        image: name of the image's file.
        bytes: of the image.
        decision: as it was answered (:meth:`runtime.Decision.to_dict`).
    """

    id: str
    time: float
    request_id: str
    predicted: str
    image: str
    bytes: int
    decision: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """Some rejects, newest first, and the id to go on from; None after the last."""

    rejects: tuple[Reject, ...]
    next: str | None


class RejectStore:
    """Rejects in folders by day (UTC), as ``ID.jpg`` and then ``ID.json``: a reject without its record is none.

    Several workers may share a store. Not for the request path, since every method waits for the disk or the network:
    :class:`serving.rejects.writer.RejectWriter` is. Every method may raise OSError.

    Args:
        files: where.
        limits: kept by :meth:`save` and :meth:`clean`.
        clock: seconds since the epoch.
    """

    def __init__(self, files: Files, limits: StoreLimits | None = None, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._limits = limits or StoreLimits()
        self._clock = clock
        self._unchecked = 0
        self._cleaned = -math.inf  # so the first save looks at what is there
        self._last = 0

    def save(self, image: bytes, decision: dict[str, Any], predicted: str, request_id: str) -> Reject:
        """Keep an image as it was received."""
        now = self._clock()
        self._last = max(int(now * 1000), self._last + 1)  # two may come within a millisecond
        id_ = f"{self._last:013d}-{os.urandom(6).hex()}"
        reject = Reject(id_, now, request_id, predicted, id_ + suffix_of(image), len(image), decision)
        self._files.write(_folder(id_), reject.image, image)
        record = orjson.dumps(asdict(reject))
        self._files.write(_folder(id_), id_ + _RECORD, record)
        self._unchecked += len(image) + len(record)
        if self._unchecked > self._limits.max_bytes / _CHECKS or now - self._cleaned > _CLEAN_EVERY:
            self.clean()
        return reject

    def page(self, limit: int, after: str | None = None) -> Page:
        """Some rejects, newest first.

        Args:
            limit: how many at most.
            after: the id that the page before ended with; None for the first page.

        Raises:
            RejectNotFound: `after` is no id.
        """
        if after is not None and not _ID.fullmatch(after):
            raise RejectNotFound(f"{after!r} is no id to go on from")
        found: list[Reject] = []
        for reject in self._newest_first(after):
            if len(found) == limit:
                return Page(tuple(found), found[-1].id)
            found.append(reject)
        return Page(tuple(found), None)

    def __iter__(self) -> Iterator[Reject]:
        """All rejects, newest first."""
        return self._newest_first(None)

    def get(self, id_: str) -> Reject:
        """One reject.

        Raises:
            RejectNotFound
        """
        reject = self._record(id_) if _ID.fullmatch(id_) else None
        if reject is None:
            raise RejectNotFound(f"no rejected image has the id {id_!r}, or no longer")
        return reject

    def image(self, reject: Reject) -> bytes:
        """The image as it was received.

        Raises:
            RejectNotFound: it was deleted meanwhile, or is not as it was written.
        """
        try:
            data = self._files.read(_folder(reject.id), reject.image)
        except FileNotFoundError:
            data = b""
        if len(data) != reject.bytes:
            raise RejectNotFound(f"the image of {reject.id} is gone or damaged")
        return data

    def delete(self, id_: str) -> None:
        """Remove a reject: its record first, so that a crash in between leaves none.

        Raises:
            RejectNotFound
        """
        reject = self.get(id_)
        self._files.delete(_folder(id_), id_ + _RECORD)
        self._files.delete(_folder(id_), reject.image)

    def clean(self) -> None:
        """Remove what is too old, what exceeds the bound on bytes, and what killed processes left behind."""
        now = self._clock()
        groups: list[tuple[str, list[FileInfo]]] = []  # an id and its files, oldest first
        for folder in self._folders():
            by_id: dict[str, list[FileInfo]] = {}
            for file in self._files.files(folder):
                id_ = file.name.removeprefix(".").partition(".")[0]  # a file half written may be a hidden one
                if _ID.fullmatch(id_):
                    by_id.setdefault(id_, []).append(file)
            groups += sorted(by_id.items())
        total = sum(file.bytes for _, files in groups for file in files)
        for id_, files in groups:
            age = now - _seconds(id_)
            whole = len(files) == 2 and any(file.name == id_ + _RECORD for file in files)
            if age > self._limits.max_age or total > self._limits.max_bytes or (not whole and age > _ABANDONED):
                for file in sorted(files, key=lambda file: not file.name.endswith(_RECORD)):
                    self._files.delete(_folder(id_), file.name)
                    total -= file.bytes
        self._unchecked, self._cleaned = 0, now

    def _newest_first(self, after: str | None) -> Iterator[Reject]:
        for folder in reversed(self._folders()):
            if after and folder > _folder(after):
                continue
            names = sorted((file.name for file in self._files.files(folder)), reverse=True)
            for name in names:
                id_ = name.removesuffix(_RECORD)
                if name.endswith(_RECORD) and _ID.fullmatch(id_) and (after is None or id_ < after):
                    reject = self._record(id_)
                    if reject:
                        yield reject

    def _record(self, id_: str) -> Reject | None:
        """What a record says; None for one that is gone or damaged."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            reject = schema.build(Reject, orjson.loads(self._files.read(_folder(id_), id_ + _RECORD)))
            if reject.id == id_ and reject.image.startswith(id_ + ".") and "/" not in reject.image:
                return reject
        return None

    def _folders(self) -> list[str]:
        return [folder for folder in self._files.folders() if _FOLDER.fullmatch(folder)]


def _seconds(id_: str) -> float:
    return int(id_[:13]) / 1000


def _folder(id_: str) -> str:
    """The day of an id."""
    return datetime.fromtimestamp(_seconds(id_), UTC).strftime("%Y-%m-%d")
