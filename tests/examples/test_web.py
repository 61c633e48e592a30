"""The page that decides in the browser, in headless Chromium. Needs npm's onnxruntime-web beside it, and a Chromium."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Gate, bundle
from runtime.bundle import MANIFEST, Bundle
from runtime.golden.document import GOLDEN, read
from runtime.preprocess import decoded
from tests.gates import MADE, edges
from tests.small import encode

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium on the PATH, nor in the variable CHROMIUM", allow_module_level=True)
PAGE = Path(__file__).resolve().parents[2] / "examples" / "web"
if not (PAGE / "node_modules" / "onnxruntime-web").is_dir():
    pytest.skip("no onnxruntime-web; npm install --prefix examples/web fetches it", allow_module_level=True)

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


class Handler(SimpleHTTPRequestHandler):
    """The page at the root, and bundles below /bundles/."""

    def __init__(self, *arguments: Any, bundles: Path) -> None:
        self.bundles = bundles
        super().__init__(*arguments, directory=str(PAGE))

    def translate_path(self, path: str) -> str:
        place = Path(super().translate_path(path)).relative_to(PAGE)
        return str(self.bundles / Path(*place.parts[1:]) if place.parts[:1] == ("bundles",) else PAGE / place)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle, as it is and damaged in three ways."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("shipped", "graph", "golden", "absent"):
        shutil.copytree(PAGE.parents[1] / "bundles" / "cifar10", folder / name)
    (folder / "graph" / "pipeline.onnx").write_bytes(b"another graph")
    document = json.loads((folder / "golden" / GOLDEN).read_text())
    document["images"][3]["scores"]["energy"] *= 1.05
    replace(folder / "golden", GOLDEN, json.dumps(document).encode())
    (folder / "absent" / "pipeline.onnx").unlink()
    return folder


def replace(path: Path, name: str, data: bytes) -> None:
    """Another file in a bundle, and in its manifest."""
    manifest = json.loads((path / MANIFEST).read_text())
    entry = bundle.entry(data)
    manifest["files"][name] = {"sha256": entry.sha256, "bytes": entry.bytes}
    (path / MANIFEST).write_text(json.dumps(manifest))
    (path / name).write_bytes(data)


@pytest.fixture(scope="module")
def url(bundles: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, bundles=bundles)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def opened(browser: Any, url: str, name: str) -> Any:
    page = browser.new_page()
    page.set_default_timeout(60_000)  # a browser on a busy machine
    page.goto(f"{url}/?bundle=bundles/{name}")
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
    yield opened(context, url, "shipped")
    assert [address for address in asked if not address.startswith((f"{url}/", "data:", f"blob:{url}/"))] == []
    assert faults == []


def test_it_says_what_it_runs_and_that_the_golden_images_agree(page: Any) -> None:
    version = json.loads((PAGE / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    assert page.inner_text("#state") == f"cifar10 · WebAssembly, onnxruntime-web {version} · 12 golden images agree"


def test_golden_images(page: Any, bundles: Path) -> None:
    """Pixels of PNGs are exact; every score is within 1 %, those of PNGs within 1e-4, and every decision the same."""
    found = page.evaluate(
        """async () => {
            const { Gate } = await import('./gate.js')
            return (await Gate.load(new URL('bundles/shipped/', location.href))).golden
        }"""
    )
    golden = read(Bundle.load(bundles / "shipped"))
    assert golden is not None
    expected = golden.images
    assert [one["file"] for one in found] == [one.file for one in expected]
    assert {one.decision for one in expected} == {"accept", "reject"}
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


@pytest.mark.parametrize("file", ["wide.png", "alpha.png", "rotated.jpg"])
def test_a_chosen_image_gets_the_library_s_decision(page: Any, bundles: Path, file: str) -> None:
    path = bundles / "shipped" / "golden" / file
    gate = Gate.load(bundles / "shipped", engine="onnxruntime-cpu", threads=1)
    (expected,) = gate.decide([path])
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


def test_half_transparent_pixels_are_within_one_grey_level(page: Any, bundles: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    spec = Bundle.load(bundles / "shipped").manifest.input
    pixels = page.evaluate(
        """async bytes => {
            const { decode } = await import('./decoding.js')
            return Array.from((await decode(new Blob([new Uint8Array(bytes)]), 'ignore')).data)
        }""",
        list(encode(image)),
    )
    there = decoded(encode(image), spec).astype(int)
    assert np.abs(np.array(pixels).reshape(there.shape) - there).max() <= 1


@pytest.mark.parametrize("kind", ["plain", "multilabel", "of classes", "selective"])
def test_the_rule(page: Any, kind: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    """Reasons, p-values and probabilities of any outputs, at the edges and where a score is not finite, are Python's."""
    made = MADE[kind](tmp_path / "small", shared_bundle)
    logits, scores, decisions = edges(made)
    accepts = [decision.decision == "accept" for decision in decisions]
    found = page.evaluate(
        """async ([manifest, logits, scores, accepts]) => {
            const { decision } = await import('./rule.js')
            const rows = (values, width) => accepts.map((_, i) => new Float32Array(values.slice(i * width, (i + 1) * width)))
            const [f, s] = [rows(logits, manifest.labels.length), rows(scores, manifest.scores.length)]
            return accepts.map((accept, i) => decision(manifest, { logits: f[i], scores: s[i], accept }))
        }""",
        [made.manifest.to_dict(), logits.ravel().tolist(), scores.ravel().tolist(), accepts],
    )
    for here, there in zip(found, decisions, strict=True):
        assert (here["decision"], here["reason"], here["label"]) == (there.decision, there.reason, there.label)
        assert here["score"]["p_value"] == there.score.p_value
        assert here["score"]["threshold"] == there.score.threshold
        assert there.probabilities is not None
        np.testing.assert_allclose(here["probabilities"], there.probabilities, rtol=1e-12)
    assert len({here["score"]["p_value"] for here in found}) > 40
