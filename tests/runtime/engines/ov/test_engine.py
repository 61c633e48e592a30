"""OpenVINO answers as ONNX Runtime does, in any batch and from any thread; what it compiles is kept and never trusted."""

from __future__ import annotations

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import Bundle
from runtime.engines import selection
from runtime.engines.interface import EngineOptions
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.ov import engine
from runtime.engines.ov.engine import SIZES, OpenVino, pieces
from runtime.exceptions import EngineError
from runtime.rule import Rule
from runtime.scores import largest_error
from tests.small import SPEC, calibration_images

pytest.importorskip("openvino")
IMAGES = calibration_images(70, seed=4)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def vino(shared_bundle: Bundle, root: Path) -> OpenVino:
    return OpenVino(shared_bundle.model, threads=1, lanes=2, root=root)


def folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir()]


@pytest.mark.parametrize("count", [*range(1, 18), 31, 32, 33, 70])
def test_every_batch_is_answered_as_by_onnxruntime(shared_bundle: Bundle, vino: OpenVino, count: int) -> None:
    expected = OnnxRuntimeCpu(shared_bundle.model, 1).run(IMAGES[:count], penultimate=True)
    found = vino.run(IMAGES[:count], penultimate=True)
    assert expected.penultimate is not None
    assert found.penultimate is not None
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(found.penultimate, expected.penultimate, atol=1e-5)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(Rule.of(shared_bundle.manifest).verified(found), expected.accept)


def test_no_image_is_an_empty_answer(vino: OpenVino) -> None:
    assert vino.run(IMAGES[:0]).logits.shape == (0, 3)
    assert vino.run(IMAGES[:1]).penultimate is None


@pytest.mark.parametrize("count", range(1, 70))
def test_pieces_hold_a_batch_and_waste_at_most_a_quarter(count: int) -> None:
    sizes = pieces(count)
    assert set(sizes) <= set(SIZES)
    assert sum(sizes[:-1]) < count <= sum(sizes)
    assert sum(sizes) - count <= sizes[-1] / 4


def test_answers_are_the_callers_own(vino: OpenVino) -> None:
    """No later call writes into them."""
    first = vino.run(IMAGES[:4], penultimate=True)
    kept = first.logits.copy(), first.scores.copy()
    for _ in range(3):
        vino.run(IMAGES[4:8], penultimate=True)
    np.testing.assert_array_equal(first.logits, kept[0])
    np.testing.assert_array_equal(first.scores, kept[1])


def test_many_threads_get_their_own_answers(shared_bundle: Bundle, vino: OpenVino) -> None:
    expected = OnnxRuntimeCpu(shared_bundle.model, 1).run(IMAGES).scores
    spans = [(start, start + 1 + start % 7) for start in range(0, 60)] * 4
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda span: vino.run(IMAGES[slice(*span)]).scores, spans))
    for span, scores in zip(spans, found, strict=True):
        np.testing.assert_allclose(scores, expected[slice(*span)], rtol=1e-5, atol=1e-5)


def test_arrays_that_are_not_contiguous_are_read_right(vino: OpenVino) -> None:
    np.testing.assert_array_equal(vino.run(IMAGES[::2]).logits, vino.run(IMAGES[::2].copy()).logits)


def test_images_of_another_shape_or_type_are_an_error(vino: OpenVino) -> None:
    for images in (IMAGES[:, :8], IMAGES.astype(np.float32)):
        with pytest.raises(EngineError, match=r"^openvino failed on a batch of 70: expected uint8 \[N, 16, 16, 3\]"):
            vino.run(images)


@pytest.mark.parametrize("threads", [0, 2])
def test_several_threads_of_one_batch(shared_bundle: Bundle, root: Path, threads: int) -> None:
    found = OpenVino(shared_bundle.model, threads=threads, root=root).run(IMAGES[:5])
    expected = OnnxRuntimeCpu(shared_bundle.model, 1).run(IMAGES[:5])
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)


def test_the_scores_are_those_of_its_own_logits_in_float64(shared_bundle: Bundle, vino: OpenVino) -> None:
    found = vino.run(IMAGES, penultimate=True)
    assert found.penultimate is not None
    assert largest_error(shared_bundle.manifest, found.logits, found.penultimate, found.scores) < 1e-6


def test_compiled_once(
    shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        first = OpenVino(shared_bundle.model, threads=1, root=tmp_path).run(IMAGES)
        monkeypatch.setattr(engine, "_compile", None)
        second = OpenVino(shared_bundle.model, threads=1, root=tmp_path).run(IMAGES)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert len(caplog.messages) == 1
    (folder,) = folders(tmp_path)
    assert '"engine": "openvino"' in (folder / "key.json").read_text()


@pytest.mark.parametrize("changed", ["_version", "machine_flags", "SIZES", "threads", "model"])
def test_what_was_compiled_of_or_for_something_else_is_not_taken(
    shared_bundle: Bundle, selective_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setattr(engine, "SIZES", (1,))
    OpenVino(shared_bundle.model, threads=1, root=tmp_path)
    values = {"_version": lambda: "2099.1", "machine_flags": lambda: ("avx512f",), "SIZES": (1, 3)}
    if changed in values:
        monkeypatch.setattr(engine, changed, values[changed])
    model = selective_bundle.model if changed == "model" else shared_bundle.model
    OpenVino(model, threads=2 if changed == "threads" else 1, root=tmp_path)
    assert len(folders(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "gone", "foreign"])
def test_a_damaged_cache_is_compiled_again(
    shared_bundle: Bundle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    monkeypatch.setattr(engine, "SIZES", (1,))
    whole = OpenVino(shared_bundle.model, threads=1, root=tmp_path).run(IMAGES[:1]).scores
    (folder,) = folders(tmp_path)
    file = folder / "compiled"
    data = file.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    broken = {"cut": data[: len(data) // 2], "bit": bytes(flipped), "empty": b"", "foreign": b"not a model" * 100}
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(broken[damage])
    np.testing.assert_array_equal(OpenVino(shared_bundle.model, threads=1, root=tmp_path).run(IMAGES[:1]).scores, whole)
    assert caplog.messages == [f"openvino: {file} is damaged; the graph is compiled again"]
    assert engine._unpacked(file) is not None


def test_without_a_place_for_the_cache_it_runs_and_says_so(
    shared_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    found = OpenVino(shared_bundle.model, threads=1, root=tmp_path / "file").run(IMAGES[:1])
    assert found.logits.shape == (1, 3)
    (line,) = caplog.messages
    assert "can't be written" in line
    assert line.endswith("the graph is compiled at each start")


def test_no_graph_is_one_line() -> None:
    with pytest.raises(EngineError, match=r"^OpenVINO can't compile the graph: ") as caught:
        OpenVino(b"no graph", threads=1)
    assert "\n" not in str(caught.value)


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` as it is outside of tests."""
    monkeypatch.setattr(selection, "AUTO", (*selection.GPU_ENGINES, *selection.CPU_ENGINES))


@pytest.mark.usefixtures("auto")
def test_a_missing_package_is_one_line(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        EngineError, match=r"^engine openvino: there is no Python module 'openvino'; pip install 'oodgate\["
    ):
        Gate.load(shared_bundle.path, engine="openvino")
    with caplog.at_level(logging.INFO):
        assert Gate.load(shared_bundle.path, engine="auto").engine.name == "onnxruntime-cpu"
    (line,) = caplog.messages
    assert line.startswith("engine onnxruntime-cpu, the best that works here (")
    assert "openvino: there is no Python module 'openvino'" in line


@pytest.mark.usefixtures("auto")
def test_auto_takes_it_before_onnxruntime_and_says_why(
    shared_bundle: Bundle, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        gate = Gate.load(shared_bundle.path, threads=1, cache=root)
    assert gate.engine.name == "openvino"
    (line,) = [line for line in caplog.messages if line.startswith("engine ")]
    assert line.startswith("engine openvino, the best that works here (tensorrt")
    expected = Gate.load(shared_bundle.path, engine="onnxruntime-cpu", threads=1).decide(IMAGES)
    assert [one.decision for one in gate.decide(IMAGES)] == [one.decision for one in expected]


def test_an_engine_that_computes_otherwise_is_not_taken(
    shared_bundle: Bundle, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousandth of the logits' range is nothing that fp32 explains; it is what bf16 would do unasked."""
    run = OpenVino.run

    def shifted(self: OpenVino, images: object, *, penultimate: bool = False) -> object:
        found = run(self, images, penultimate=penultimate)  # type: ignore[arg-type]
        return type(found)(found.logits + 1e-3 * np.ptp(found.logits), found.scores, penultimate=found.penultimate)

    monkeypatch.setattr(OpenVino, "run", shifted)
    with pytest.raises(
        EngineError, match=r"^engine openvino: its logits differ from the CPU's by 0.\d+% of their range"
    ):
        selection.load(shared_bundle, EngineOptions("openvino", 1, root))


def test_a_head_that_is_not_fp32_is_not_taken(
    shared_bundle: Bundle, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores as bfloat16 would round them, of logits that are right."""
    run = OpenVino.run

    def coarse(self: OpenVino, images: object, *, penultimate: bool = False) -> object:
        found = run(self, images, penultimate=penultimate)  # type: ignore[arg-type]
        return type(found)(found.logits, (found.scores * 1.001).astype(np.float32), penultimate=found.penultimate)

    monkeypatch.setattr(OpenVino, "run", coarse)
    with pytest.raises(
        EngineError, match=r"^engine openvino: its scores are 0.001 from those of its own logits; they must"
    ):
        selection.load(shared_bundle, EngineOptions("openvino", 1, root))


def test_the_signature_is_the_graphs(shared_bundle: Bundle, vino: OpenVino) -> None:
    shared_bundle.check_graph(vino.signature)
    assert vino.signature.inputs["images"].shape == (None, SPEC.height, SPEC.width, 3)
