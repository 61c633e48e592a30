"""Golden images against a running service, and by the service itself before it serves."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from starlette.applications import Starlette

from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines.interface import Outputs
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import EngineError, OodgateError
from runtime.golden.service import Service
from runtime.preprocess import preprocess
from runtime.selftest import main
from serving.deciding import decider
from tests.runtime.golden.test_replay import edit
from tests.serving.inside import application
from tests.small import write_golden


@contextlib.contextmanager
def running(bundle: Bundle, patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The application in this process, which the selftest asks without a socket; its address."""
    inside = application(bundle, engine="onnxruntime-cpu", reload=0)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(inside) as (client, _):

        def ask(_: Service, path: str, data: bytes | None = None, headers: Any = None) -> Any:
            method = "GET" if data is None else "POST"
            answer = portal.call(partial(client.request, method, path, content=data, headers=headers))
            return answer.raise_for_status().json()

        patch.setattr(Service, "_ask", ask)
        yield "http://oodgate"


def selftest(capsys: pytest.CaptureFixture[str], bundle: Bundle, url: str) -> tuple[int, list[str]]:
    status = main([str(bundle.path), "--url", url])
    return status, capsys.readouterr().out.splitlines()


def test_a_service_that_runs(
    server: tuple[str, subprocess.Popen[bytes]], golden_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real one, of the same model.onnx."""
    status, lines = selftest(capsys, golden_bundle, server[0])
    assert status == 0
    (line,) = lines
    assert line.startswith(f"{server[0]} on onnxruntime-cpu: 12 golden images as expected; scores ")


def test_a_service_that_serves_another_model(
    server: tuple[str, subprocess.Popen[bytes]], selective_bundle: Bundle, tmp_path: Path
) -> None:
    other = write_golden(tmp_path / "other", selective_bundle)
    with pytest.raises(OodgateError, match=r"serves another model\.onnx: "):
        main([str(other.path), "--url", server[0]])


def test_something_else_that_answers(golden_bundle: Bundle, server: tuple[str, subprocess.Popen[bytes]]) -> None:
    with pytest.raises(OodgateError, match="answers 404: "):
        main([str(golden_bundle.path), "--url", f"{server[0]}/elsewhere"])


def test_stages_of_a_service_that_is_broken(
    golden_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another resize, decode, network, graph's head and rule patched in, one after the other."""
    broken = Broken()
    with running(golden_bundle, monkeypatch) as url:
        assert selftest(capsys, golden_bundle, url)[0] == 0
        for stage, breaking in broken.ways.items():
            with monkeypatch.context() as patch:
                breaking(patch)
                status, lines = selftest(capsys, golden_bundle, url)
            assert status == 1
            assert {line.split(": ")[0].split(" fails at ")[1] for line in lines[:-1]} == {stage}, lines
            assert f"golden images fail ({len(lines) - 1} at {stage}); " in lines[-1]
        assert selftest(capsys, golden_bundle, url)[0] == 0


class Broken:
    """Ways to break a service that runs in this process."""

    def __init__(self) -> None:
        self.ways = {
            "resize": self._resize,
            "decode": self._decode,
            "network": self._network,
            "scores": self._scores,
            "rule": self._rule,
        }

    @staticmethod
    def _preprocess(patch: pytest.MonkeyPatch, changed: Any) -> None:
        patch.setattr(decider, "preprocess", changed)
        patch.setattr(Gate, "preprocess", lambda self, data: changed(data, self.manifest.input, self.limits))

    def _resize(self, patch: pytest.MonkeyPatch) -> None:
        def lanczos(data: bytes, spec: Any, limits: Any) -> Any:
            return preprocess(data, dataclasses.replace(spec, interpolation="lanczos"), limits)

        self._preprocess(patch, lanczos)

    def _decode(self, patch: pytest.MonkeyPatch) -> None:
        """Colours of files with an alpha channel swapped."""

        def swapped(data: bytes, spec: Any, limits: Any) -> Any:
            pixels = preprocess(data, spec, limits)
            return pixels[..., ::-1].copy() if data[25:26] == b"\x06" else pixels

        self._preprocess(patch, swapped)

    @staticmethod
    def _outputs(patch: pytest.MonkeyPatch, change: Any) -> None:
        run = OnnxRuntimeCpu.run
        patch.setattr(OnnxRuntimeCpu, "run", lambda self, images, **options: change(run(self, images, **options)))

    def _network(self, patch: pytest.MonkeyPatch) -> None:
        def flipped(found: Outputs) -> Outputs:
            logits = 3 * found.logits
            return dataclasses.replace(found, logits=logits, scores=3 * found.scores, accept=None)

        self._outputs(patch, flipped)

    def _scores(self, patch: pytest.MonkeyPatch) -> None:
        self._outputs(patch, lambda found: dataclasses.replace(found, scores=found.scores * 1.1, accept=None))

    @staticmethod
    def _rule(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Gate, "_accepts", lambda _, rule, outputs: ~rule.accepts(outputs.logits, outputs.scores))


def test_it_does_not_start_with_an_engine_that_fails(golden_bundle: Bundle, tmp_path: Path) -> None:
    edited = edit(golden_bundle, tmp_path, lambda image: image["scores"].update(energy=image["scores"]["energy"] + 1))

    async def start() -> None:
        async with application(edited):
            raise AssertionError("it started")

    with pytest.raises(EngineError, match=r"1 of 12 golden images fail \(1 at scores\).*same\.png fails at scores"):
        asyncio.run(start())


def test_it_says_in_one_line_that_they_are_as_expected(golden_bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    async def start() -> None:
        async with application(golden_bundle):
            pass

    with caplog.at_level(logging.INFO, "oodgate"):
        asyncio.run(start())
    (line,) = (record.message for record in caplog.records if "golden" in record.message)
    assert line.startswith("onnxruntime-cpu: 12 golden images as expected; ")
    assert line.endswith(" ms")


def test_a_bundle_that_fails_does_not_replace_the_one_in_service(
    golden_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = Bundle.load(shutil.copytree(golden_bundle.path, tmp_path / "served"))
    edited = edit(golden_bundle, tmp_path, lambda image: image.update(decoded="0" * 64), image=4)

    async def replace() -> None:
        async with application(served, reload=0) as (client, app):
            shutil.rmtree(served.path)
            shutil.copytree(edited.path, served.path)
            await look(app)
            assert (await client.post("/classify", content=(served.path / "golden/same.png").read_bytes())).is_success

    with caplog.at_level(logging.ERROR, "oodgate"):
        asyncio.run(replace())
    (line,) = (record.message for record in caplog.records)
    assert line.startswith("the new bundle is refused, the old one serves on: ")
    assert "tall.png fails at decode" in line


async def look(app: Starlette) -> None:
    await app.state.deployment.look()
