"""When the engine is measured, and what is kept of it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle import Bundle
from runtime.engines.interface import EngineOptions
from serving.deciding import tuning
from serving.deciding.deployment import _gate
from serving.deciding.stopwatch import alone, batch_seconds, crowd, photograph
from serving.deciding.tuning import tuned
from serving.exceptions import SettingsError
from serving.settings import Settings


def test_what_the_environment_sets_is_known_by_name() -> None:
    assert Settings.from_environment({"OODGATE_MAX_BATCH": "0", "OODGATE_TUNE": "0"}).given == {"max_batch", "tune"}
    with pytest.raises(SettingsError, match="OODGATE_GIVEN is no setting"):
        Settings.from_environment({"OODGATE_GIVEN": "1"})


Tune = Callable[..., tuple[tuple[Any, Settings, tuning.Tuning], list[tuple[int, int]]]]


@pytest.fixture
def tune(shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    """Tunes with figures that are given, and the (threads, calls) of the gates that it loaded."""
    monkeypatch.setattr(tuning, "EngineOptions", lambda: EngineOptions(cache=tmp_path / "cache"))
    monkeypatch.setattr(tuning, "timings_of", lambda ways, _: [(0.03, 0.01 / s.engine_threads) for s, _ in ways])
    monkeypatch.setattr(tuning, "batch_seconds", lambda *_: {1: 0.02, 2: 0.032})

    def run(**settings: Any) -> tuple[tuple[Any, Settings, tuning.Tuning], list[tuple[int, int]]]:
        loaded = []
        given = frozenset(settings) & {"engine_threads", "engine_calls", "max_batch", "batch_wait_ms"}
        asked = Settings(
            **{"engine": "onnxruntime-cpu", "decode_threads": 2, "engine_calls": 1, **settings}, given=given
        )

        def load(chosen: Settings) -> Any:
            loaded.append((chosen.engine_threads, chosen.engine_calls))
            return _gate(shared_bundle, chosen)

        return tuned(shared_bundle, asked, load), loaded

    return run


def test_the_second_start_finds_what_the_first_measured(tune: Tune, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "oodgate")
    (_, settings, first), loaded = tune()
    assert first == tuning.Tuning(2, 1, 2, 0, "measured")
    assert (settings.engine_threads, settings.max_batch) == (2, 2)
    assert loaded == [(1, 1), (1, 2), (2, 1)]
    (_, settings, second), loaded = tune()
    assert second == dataclasses.replace(first, chosen_by="cache")
    assert loaded == [(2, 1)]
    lines = [record.getMessage() for record in caplog.records if record.name == "oodgate"]
    assert len(lines) == 2
    assert lines[0].startswith("engine_threads=2, engine_calls=1, max_batch=2, batch_wait_ms=0, measured in ")
    assert lines[0].endswith("1 x 2 threads, 30.0 ms alone, 200 images/s")
    assert lines[1].startswith(
        "engine_threads=2, engine_calls=1, max_batch=2, batch_wait_ms=0, as measured before, in "
    )


def test_other_cores_are_measured_anew(tune: Tune) -> None:
    tune()
    assert tune(decode_threads=1)[0][2].chosen_by == "measured"


@pytest.mark.parametrize(
    "damage",
    ["", "[]", '{"engine": "openvino", "timings": [], "batches": {}}', '{"engine": "x", "timings": [], "batches": {}}'],
)
def test_a_damaged_cache_is_measured_anew(tune: Tune, tmp_path: Path, damage: str) -> None:
    tune()
    (file,) = tmp_path.glob("cache/*/tuning.json")
    file.write_text(damage)
    assert tune()[0][2].chosen_by == "measured"
    assert tune()[0][2].chosen_by == "cache"


def test_what_was_measured_on_another_engine_does_not_count(tune: Tune, tmp_path: Path) -> None:
    tune()
    (file,) = tmp_path.glob("cache/*/tuning.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "engine": "openvino"}))
    assert tune()[0][2].chosen_by == "measured"
    assert json.loads(file.read_text())["engine"] == "onnxruntime-cpu"


def test_a_cache_that_can_t_be_written_is_one_line(
    tune: Tune, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").touch()
    assert tune()[0][2].chosen_by == "measured"
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "can't be written" in line
    assert line.endswith("; what suits the engine is measured at each start")


def test_nothing_is_measured_where_nothing_is_free(tune: Tune, tmp_path: Path) -> None:
    everything = {"engine_threads": 1, "engine_calls": 2, "max_batch": 0, "batch_wait_ms": 1}
    for options, expected in ((everything, (1, 2, 16, 1)), ({"tune": False}, (1, 1, 16, 0))):
        (_, _, found), loaded = tune(**options)
        assert found == tuning.Tuning(*expected, "settings")
        assert len(loaded) == 1
    assert not (tmp_path / "cache").exists()


def test_the_stopwatch_times_the_pipeline(shared_bundle: Bundle) -> None:
    settings = Settings(engine="onnxruntime-cpu", decode_threads=2)
    gate = _gate(shared_bundle, settings)
    source = photograph(gate)
    assert isinstance(source, bytes)
    one, many = alone(gate, source, 0.05), crowd(gate, source, settings, 0.05)
    assert 1e-5 < many < 1
    assert 1e-4 < one < 1
    assert list(batch_seconds(gate, [1, 2])) == [1, 2]


def test_where_a_photograph_is_too_large_an_array_is_timed(shared_bundle: Bundle) -> None:
    gate = _gate(shared_bundle, Settings(engine="onnxruntime-cpu", max_pixels=1000))
    source = photograph(gate)
    assert not isinstance(source, bytes)
    assert alone(gate, source, 0.0) < 1
