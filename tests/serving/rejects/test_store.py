"""What is kept, in what order, and what becomes of it when processes die in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.exceptions import RejectNotFound
from serving.rejects.files import Files, LocalFiles, open_files
from serving.rejects.store import Reject, RejectStore, StoreLimits
from tests.small import calibration_images, encode

PNG = encode(calibration_images(1)[0])
DECISION = {"decision": "reject", "score": {"p_value": 0.004}}
DAY = 86_400.0


class Clock:
    """Seconds since the epoch, a second further on each look."""

    def __init__(self) -> None:
        self.now = 1_767_225_000.0  # ten minutes before midnight UTC

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> RejectStore:
    return RejectStore(LocalFiles(tmp_path), clock=clock)


def save(store: RejectStore, count: int = 1, image: bytes = PNG) -> list[Reject]:
    return [store.save(image, DECISION, "cat", f"request-{i}") for i in range(count)]


def kept(store: RejectStore) -> list[str]:
    return [reject.id for reject in store]


@pytest.mark.parametrize("place", ["directory", "memory"])
def test_save_and_read(place: str, tmp_path: Path) -> None:
    store = RejectStore(open_files(str(tmp_path) if place == "directory" else f"memory://{tmp_path.name}/store"))
    (saved,) = save(store)
    assert (saved.predicted, saved.request_id, saved.bytes, saved.decision) == ("cat", "request-0", len(PNG), DECISION)
    assert saved.image == f"{saved.id}.png"
    assert store.get(saved.id) == saved
    assert store.image(saved) == PNG
    assert store.page(10).rejects == (saved,)
    store.delete(saved.id)
    assert kept(store) == []


def test_files_lie_by_day_and_their_names_are_the_store_s(store: RejectStore, tmp_path: Path) -> None:
    reject = store.save(PNG, DECISION, "../../cat", "../../etc/passwd")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert names == [f"2025-12-31/{reject.id}.json", f"2025-12-31/{reject.id}.png"]


def test_paging_is_newest_first_and_complete(store: RejectStore, clock: Clock) -> None:
    saved = save(store, 3)
    clock.now += DAY
    saved += save(store, 4)
    expected = [reject.id for reject in reversed(saved)]
    for limit in (1, 2, 3, 7, 8):
        found: list[str] = []
        after = None
        for _ in range(-(-7 // limit)):
            page = store.page(limit, after)
            found += [reject.id for reject in page.rejects]
            after = page.next
        assert after is None
        assert found == expected


def test_what_comes_in_one_instant_keeps_its_order(tmp_path: Path) -> None:
    store = RejectStore(LocalFiles(tmp_path), clock=lambda: 1e9)
    saved = [reject.id for reject in save(store, 20)]
    assert [reject.id for reject in store.page(100).rejects] == saved[::-1]


def test_a_page_goes_on_after_a_reject_that_was_deleted(store: RejectStore) -> None:
    saved = save(store, 4)
    page = store.page(2)
    store.delete(saved[2].id)
    assert [reject.id for reject in store.page(2, page.next).rejects] == [saved[1].id, saved[0].id]


@pytest.mark.parametrize(
    "id_", ["", "x", "../../../etc/passwd", "1767225000000-000000000000", "1767225000000-00000000000g", "1" * 26]
)
def test_no_such_id(id_: str, store: RejectStore) -> None:
    save(store)
    with pytest.raises(RejectNotFound):
        store.get(id_)
    with pytest.raises(RejectNotFound):
        store.delete(id_)


def test_no_such_page(store: RejectStore) -> None:
    with pytest.raises(RejectNotFound, match=r"'\.\./x' is no id"):
        store.page(5, "../x")


# --- bounds


def test_the_bound_on_bytes_drops_the_oldest(tmp_path: Path, clock: Clock) -> None:
    store = RejectStore(LocalFiles(tmp_path), StoreLimits(max_bytes=40_000), clock)
    saved = save(store, 30, image=PNG.ljust(4000, b"\0"))
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 30_000 < total <= 40_000 * (1 + 1 / 32) + 5000
    assert kept(store) == [reject.id for reject in reversed(saved[-len(kept(store)) :])]


def test_several_workers_share_the_bound(tmp_path: Path, clock: Clock) -> None:
    workers = [RejectStore(LocalFiles(tmp_path), StoreLimits(max_bytes=40_000), clock) for _ in range(3)]
    for _ in range(20):
        for worker in workers:
            save(worker, image=PNG.ljust(4000, b"\0"))
    total = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert total <= 40_000 * (1 + 3 / 32) + 5000


def test_the_bound_on_age(tmp_path: Path, clock: Clock) -> None:
    store = RejectStore(LocalFiles(tmp_path), StoreLimits(max_age=10 * DAY), clock)
    save(store, 3)
    clock.now += 9 * DAY
    young = save(store, 2)
    clock.now += 2 * DAY
    store.clean()
    assert kept(store) == [young[1].id, young[0].id]
    clock.now += 9 * DAY
    (last,) = save(store)  # an hour after the last time, saving cleans too
    assert kept(store) == [last.id]


@pytest.mark.parametrize(("max_bytes", "max_age"), [(0, 1.0), (1, 0.0), (1, float("nan"))])
def test_no_limits(max_bytes: int, max_age: float) -> None:
    with pytest.raises(ValueError, match="a store keeps at least a byte for some time"):
        StoreLimits(max_bytes, max_age)


# --- crashes


class Dying:
    """Files of a process that dies before its n-th write."""

    def __init__(self, files: Files, n: int, torn: str) -> None:
        self._files, self._left, self._torn = files, n, torn

    def write(self, folder: str, name: str, data: bytes) -> None:
        self._left -= 1
        if not self._left:
            self._files.write(folder, self._torn.format(name), data[: len(data) // 2])
            raise KeyboardInterrupt
        self._files.write(folder, name, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)


@pytest.mark.parametrize("torn", [".{}.new-1", "{}.new"])
@pytest.mark.parametrize("write", [1, 2])
def test_a_reject_torn_by_a_crash_is_ignored_and_later_cleaned(
    write: int, torn: str, tmp_path: Path, clock: Clock
) -> None:
    with pytest.raises(KeyboardInterrupt):
        save(RejectStore(Dying(LocalFiles(tmp_path), write, torn), clock=clock))
    store = RejectStore(LocalFiles(tmp_path), clock=clock)
    (saved,) = save(store)
    assert kept(store) == [saved.id]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2 + write  # another worker may be at it
    clock.now += 700
    store.clean()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("record", [b"", b"{", b"null", b"[]", b'{"id": "x"}', b"\xff"])
def test_a_damaged_record_is_no_reject(record: bytes, store: RejectStore, tmp_path: Path) -> None:
    first, second = save(store, 2)
    (tmp_path / "2025-12-31" / f"{first.id}.json").write_bytes(record)
    assert kept(store) == [second.id]
    with pytest.raises(RejectNotFound):
        store.get(first.id)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "ID.png/../../x", "other.png"])
def test_a_record_can_t_point_elsewhere(name: str, store: RejectStore, tmp_path: Path) -> None:
    (reject,) = save(store)
    record = tmp_path / "2025-12-31" / f"{reject.id}.json"
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "image": name.replace("ID", reject.id)}))
    assert kept(store) == []


@pytest.mark.parametrize("image", [None, b"", PNG[:-1]])
def test_an_image_that_is_gone_or_truncated(image: bytes | None, store: RejectStore, tmp_path: Path) -> None:
    (reject,) = save(store)
    file = tmp_path / "2025-12-31" / reject.image
    if image is None:
        file.unlink()
    else:
        file.write_bytes(image)
    with pytest.raises(RejectNotFound, match="gone or damaged"):
        store.image(reject)


def test_foreign_files_are_left_alone(store: RejectStore, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    save(store)
    (tmp_path / "2025-12-31" / "readme.md").write_text("x")
    (tmp_path / "2025-12-31" / "readme.json").write_text("{}")
    store.clean()
    assert len(kept(store)) == 1
    assert (tmp_path / "notes" / "a.txt").exists()
    assert (tmp_path / "2025-12-31" / "readme.md").exists()
