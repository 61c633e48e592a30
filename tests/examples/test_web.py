"""The page that decides in the browser, in headless Chromium. Needs npm's onnxruntime-web beside it, and a Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.paths import SAMPLES
from benchmarks.servers import free_port
from runtime import Gate, bundle
from runtime.bundle import MANIFEST, Bundle
from runtime.golden.document import GOLDEN, read
from runtime.preprocess import decoded
from tests.gates import MADE, edges
from tests.profiles import P3
from tests.small import encode
from tests.writers import png

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium on the PATH, nor in the variable CHROMIUM", allow_module_level=True)
ROOT = Path(__file__).resolve().parents[2]
PAGE, SHIPPED = ROOT / "examples" / "web", ROOT / "bundles" / "cifar10"
if not (PAGE / "node_modules" / "onnxruntime-web").is_dir():
    pytest.skip("no onnxruntime-web; npm install --prefix examples/web fetches it", allow_module_level=True)

DOCS = (ROOT / "docs" / "edge.md").read_text()
P3_CHROMATICITIES = struct.pack(">8I", 31270, 32900, *(round(10**5 * part) for point in P3 for part in point))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as the page sees it, with the shipped bundle as it is and damaged in three ways."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "examples").mkdir()
    (folder / "examples" / "web").symlink_to(PAGE)
    bundles = folder / "bundles"
    for name in ("cifar10", "graph", "golden", "absent"):
        shutil.copytree(ROOT / "bundles" / "cifar10", bundles / name)
    (bundles / "graph" / "pipeline.onnx").write_bytes(b"another graph")
    document = json.loads((bundles / "golden" / GOLDEN).read_text())
    document["images"][3]["scores"]["energy"] *= 1.05
    replace(bundles / "golden", GOLDEN, json.dumps(document).encode())
    (bundles / "absent" / "pipeline.onnx").unlink()
    return folder


def replace(path: Path, name: str, data: bytes) -> None:
    """Another file in a bundle, and in its manifest."""
    manifest = json.loads((path / MANIFEST).read_text())
    entry = bundle.entry(data)
    manifest["files"][name] = {"sha256": entry.sha256, "bytes": entry.bytes}
    (path / MANIFEST).write_text(json.dumps(manifest))
    (path / name).write_bytes(data)


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    """Of the page, by the command in docs/edge.md, but for the port and the bundle."""
    (command,) = re.findall(r"^ +python (-m http\.server) 8000$", DOCS, re.MULTILINE)
    port = free_port()
    arguments = [sys.executable, *command.split(), str(port), "--bind", "127.0.0.1"]
    process = subprocess.Popen(arguments, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (path,) = re.findall(r"http://localhost:8000(/\S+/)cifar10$", DOCS, re.MULTILINE)
    try:
        for _ in range(300):  # until it listens
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Any, url: str, name: str) -> Any:
    page = browser.new_page()
    page.set_default_timeout(120_000)  # a browser on a busy machine
    page.goto(url + name)
    page.wait_for_selector("#state.failed, #drop:not([aria-disabled])")
    return page


@pytest.fixture(scope="module")
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page with the shipped bundle; in the end, nothing was asked of another host and nothing went wrong."""
    asked, faults = list[str](), list[str]()
    context = browser.new_context()
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    yield opened(context, url, "cifar10")
    own = url.partition("/examples/")[0]
    assert [address for address in asked if not address.startswith((f"{own}/", "data:", f"blob:{own}/"))] == []
    assert faults == []


def test_it_says_what_it_runs_and_that_the_golden_images_agree(page: Any) -> None:
    version = json.loads((PAGE / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert page.inner_text("#state") == f"cifar10 · WebAssembly, onnxruntime-web {version} · 12 golden images agree"


def test_golden_images(page: Any) -> None:
    """Pixels of PNGs are exact; every score is within 1 %, those of PNGs within 1e-4, and every decision the same."""
    found = page.evaluate(
        """async () => {
            const { Gate } = await import('./gate.js')
            return (await Gate.load(new URL('/bundles/cifar10/', location.href))).golden
        }"""
    )
    golden = read(Bundle.load(SHIPPED))
    assert golden is not None
    expected = golden.images
    assert [one["file"] for one in found] == [one.file for one in expected]
    for here, there in zip(found, expected, strict=True):
        png = there.file.endswith(".png")
        assert here["decoded"] == there.decoded or not png
        assert (here["width"], here["height"]) == (there.width, there.height)
        assert (here["decision"], here["label"], here["class_index"]) == (
            there.decision,
            there.label,
            there.class_index,
        )
        wanted = [there.scores[name] for name in here["scores"]]
        np.testing.assert_allclose(list(here["scores"].values()), wanted, rtol=1e-4 if png else 1e-2)


@pytest.mark.parametrize(
    ("file", "decision"),
    [("wide.png", "reject"), ("alpha.png", "reject"), ("rotated.jpg", "reject"), ("ship.png", "accept")],
)
def test_a_chosen_image_gets_the_library_s_decision(page: Any, file: str, decision: str) -> None:
    path = (SHIPPED / "golden" if decision == "reject" else SAMPLES) / file
    gate = Gate.load(SHIPPED, engine="onnxruntime-cpu", threads=1)
    (expected,) = gate.decide([path])
    assert expected.decision == decision
    page.set_input_files("#files", str(path))
    card = page.locator(f"article[aria-label='{file}'][data-state={expected.decision}]")
    card.wait_for()
    assert card.locator("h2").inner_text() == (expected.label or "Unknown")
    top = [f"{gate.manifest.labels[k]}|{100 * p:.1f} %" for k, p in expected.top(3)]
    assert ["|".join(item.split("\n")) for item in card.locator(".top li").all_inner_texts()] == top
    assert card.locator(".p-value").inner_text().strip().startswith(f"p = {expected.score.p_value:.2g}")
    shown = card.locator("tbody tr").all_text_contents()
    assert len(shown) == len(expected.scores)


def test_what_is_no_image_gets_no_answer(page: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    page.set_input_files("#files", str(tmp_path / "broken.png"))
    card = page.locator("article[aria-label='broken.png'][data-state=failed]")
    card.wait_for()
    assert "Not an image that this browser decodes" in card.inner_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("graph", "pipeline.onnx is not the one that the manifest lists"),
        ("golden", "wide.png of the golden images differs in its scores"),
        ("absent", "is not there (404)"),
    ],
)
def test_a_bundle_that_is_not_whole_is_refused(browser: Any, url: str, name: str, message: str) -> None:
    page = opened(browser, url, name)
    assert message in page.inner_text("#state.failed")
    assert not page.locator("#files").is_enabled()
    page.close()


def decoded_there(page: Any, data: bytes, colour: str) -> npt.NDArray[np.int_]:
    pixels = page.evaluate(
        """async ([bytes, colour]) => {
            const { decode } = await import('./decoding.js')
            return (await decode(new Blob([new Uint8Array(bytes)]), colour)).data.join()
        }""",
        [list(data), colour],
    )
    return np.array(pixels.split(","), int)


def test_half_transparent_pixels_are_within_one_grey_level(page: Any, rng: np.random.Generator) -> None:
    data = encode(rng.integers(0, 256, (40, 50, 4), dtype=np.uint8))
    there = decoded(data, Bundle.load(SHIPPED).manifest.input).astype(int)
    assert np.abs(decoded_there(page, data, "ignore").reshape(there.shape) - there).max() <= 1


@pytest.mark.parametrize("colour", ["ignore", "srgb"])
@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [(b"gAMA", struct.pack(">I", 100_000))],
        [(b"gAMA", struct.pack(">I", 45_455)), (b"cHRM", P3_CHROMATICITIES)],
        [(b"cICP", bytes([12, 13, 0, 1]))],
        [(b"sRGB", b"\0")],
    ],
    ids=lambda chunks: "+".join(kind.decode() for kind, _ in chunks) or "none",
)
def test_what_a_png_says_of_colours_without_a_profile_is_ignored(
    page: Any, rng: np.random.Generator, chunks: list[tuple[bytes, bytes]], colour: str
) -> None:
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    data = png(image, 8, 2, before=chunks)
    np.testing.assert_array_equal(decoded(data, Bundle.load(SHIPPED).manifest.input), image)
    np.testing.assert_array_equal(decoded_there(page, data, colour).reshape(image.shape), image)


@pytest.mark.parametrize("kind", ["plain", "multilabel", "of classes", "selective"])
def test_the_rule(page: Any, kind: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    """Reasons, p-values and probabilities of any outputs, at the edges and where a score is not finite, are Python's."""
    made = MADE[kind](tmp_path / "small", shared_bundle)
    logits, scores, decisions = edges(made)
    accepts = [decision.decision == "accept" for decision in decisions]
    found = page.evaluate(
        """async ([json, logits, scores, accepts]) => {
            const { decision } = await import('./rule.js')
            const manifest = JSON.parse(json)
            const rows = (values, width) => accepts.map((_, i) => new Float32Array(values.slice(i * width, (i + 1) * width)))
            const [f, s] = [rows(logits, manifest.labels.length), rows(scores, manifest.scores.length)]
            return JSON.stringify(accepts.map((accept, i) => decision(manifest, { logits: f[i], scores: s[i], accept })))
        }""",
        [made.manifest.to_json(), logits.ravel().tolist(), scores.ravel().tolist(), accepts],
    )
    found = json.loads(found)
    for here, there in zip(found, decisions, strict=True):
        assert (here["decision"], here["reason"], here["label"]) == (there.decision, there.reason, there.label)
        assert here["score"]["p_value"] == there.score.p_value
        assert here["score"]["threshold"] == there.score.threshold
        assert there.probabilities is not None
        np.testing.assert_allclose(here["probabilities"], there.probabilities, rtol=1e-12)
    assert len({here["score"]["p_value"] for here in found}) > 40
