"""The pages in a real browser, headless Chromium, on a service with keys and with a store of rejects."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from runtime import Gate
from runtime.bundle import MODEL, Bundle, write
from serving.http.routes.model import calibration_histogram
from tests.serving.conftest import serve
from tests.small import LABELS, calibration_images, classifier, encode, write_bundle

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium on the PATH, nor in the variable CHROMIUM", allow_module_level=True)

KEY = "open sesame"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def url(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    rejects = tmp_path_factory.mktemp("rejects")
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    bundle = str(shared_bundle.path)
    with serve(OODGATE_BUNDLE=bundle, OODGATE_REJECTS=str(rejects), OODGATE_API_KEYS=digest) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def is_fault(message: Any) -> bool:
    """Whether the page's own doing put it on the console; Chromium writes every refusal of a request there."""
    return message.type == "error" and "the server responded with a status of" not in message.text


@pytest.fixture
def open_page(browser: Any, url: str) -> Iterator[Any]:
    """Opens a path with the key; in the end, nothing was asked of another host and nothing went wrong."""
    asked: list[str] = []
    faults: list[str] = []
    contexts = []

    def open_page(path: str = "", **options: Any) -> Any:
        context = browser.new_context(http_credentials={"username": "", "password": KEY}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)  # a browser on a busy machine
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: faults.append(message.text) if is_fault(message) else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{url}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [address for address in asked if not address.startswith((f"{url}/", "data:", f"blob:{url}/"))] == []
    assert faults == []


@pytest.fixture(scope="module")
def gate(shared_bundle: Bundle) -> Gate:
    return Gate.load(shared_bundle.path, threads=1)


@pytest.fixture(scope="module")
def files(gate: Gate, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One image file of either verdict."""
    found: dict[str, Path] = {}
    images = [encode(image) for image in calibration_images(60, seed=3)]
    for image, decision in zip(images, gate.decide(images), strict=True):
        path = tmp_path_factory.mktemp("images") / f"{decision.decision}.png"
        path.write_bytes(image)
        found.setdefault(decision.decision, path)
    assert set(found) == {"accept", "reject"}
    return found


def card(page: Any, name: str, state: str) -> Any:
    page.wait_for_selector(f"article[aria-label='{name}'][data-state={state}]")
    return page.locator(f"article[aria-label='{name}']").first


def percent(share: float) -> str:
    """As the page says it: rounded down."""
    return "less than 0.1%" if 0 < share < 0.001 else f"{np.floor(share * 1000 + 1e-6) / 10:g}%"


def test_chosen_images_get_the_library_s_verdict(open_page: Any, files: dict[str, Path], gate: Gate) -> None:
    page = open_page()
    page.set_input_files("#files", [str(path) for path in files.values()])
    for verdict, path in files.items():
        expected = gate.decide([path])[0]
        shown = card(page, path.name, verdict)
        assert shown.locator(".word").inner_text().lower() == verdict
        if expected.label:
            assert shown.locator("h3").inner_text() == expected.label
        else:
            assert gate.manifest.labels[expected.class_index] in shown.locator(".said").inner_text()
        top = [f"{gate.manifest.labels[k]}{percent(p)}" for k, p in expected.top(3)]
        assert [text.replace("\n", "") for text in shown.locator(".top li").all_inner_texts()] == top
        assert f"p\u00a0=\u00a0{expected.score.p_value:.2g}" in shown.locator(".p-value").inner_text()
        shown.locator("summary").click()
        rows = shown.locator("tbody tr").all()
        assert [row.locator("th").inner_text().removesuffix(" (gate)") for row in rows] == list(expected.scores)
        for row, value in zip(rows, expected.scores.values(), strict=True):
            text = row.locator("td").first.inner_text().replace("\u2212", "-").replace(",", "")
            assert float(text) == pytest.approx(value, rel=1e-3)


def test_the_score_stands_on_the_calibration_histogram(open_page: Any, files: dict[str, Path], gate: Gate) -> None:
    """The axis, read back from the bars: the marker and the threshold are where their scores belong."""
    page = open_page()
    page.set_input_files("#files", str(files["reject"]))
    shown = card(page, "reject.png", "reject")
    page.wait_for_selector(".histogram .above[d^=M]")
    histogram = calibration_histogram(gate.spec)
    paths = [shown.locator(f".histogram .{side}").get_attribute("d") for side in ("below", "above")]
    bars = [bar.split("V") for path in paths for bar in path.split("M")[1:]]
    left = min(float(bar[0].split()[0]) for bar in bars)
    right = max(float(bar[1].split("H")[1]) for bar in bars)
    score = gate.decide([files["reject"]])[0].score
    edges = histogram["edges"]
    for name, value in (("--at", score.value), ("--cut", score.threshold)):
        place = shown.locator(".gauge").evaluate(f"gauge => gauge.style.getPropertyValue('{name}')")
        expected = left + (right - left) * (value - edges[0]) / (edges[-1] - edges[0])
        assert float(place.removesuffix("%")) == pytest.approx(expected, abs=0.01)
    # The threshold cuts one bar in two at most.
    assert len(bars) - sum(count > 0 for count in histogram["counts"]) in (0, 1)
    assert f"{sum(histogram['counts'])} known images" in shown.locator(".known").inner_text()


def test_no_image_is_an_error_on_its_card_and_spoils_no_other(open_page: Any, files: dict[str, Path]) -> None:
    page = open_page()
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
    good = {"name": "good.png", "mimeType": "image/png", "buffer": files["accept"].read_bytes()}

    page.set_input_files("#files", [broken, good])
    shown = card(page, "broken.png", "error")
    assert "not_an_image" in shown.locator(".said").inner_text()
    assert shown.locator(".retry").is_visible()
    card(page, "good.png", "accept")


TRANSFER = """([kind, name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  const options = {bubbles: true, cancelable: true};
  const event = kind === "paste" ? new ClipboardEvent(kind, {...options, clipboardData: transfer})
                                 : new DragEvent(kind, {...options, dataTransfer: transfer});
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["paste", "drop"])
def test_pasted_and_dropped_images(open_page: Any, files: dict[str, Path], kind: str) -> None:
    page = open_page()
    page.wait_for_selector("#facts[aria-busy=false]")
    page.evaluate(TRANSFER, [kind, f"{kind}.png", list(files["accept"].read_bytes())])
    card(page, f"{kind}.png", "accept")


def test_by_keyboard_alone(open_page: Any) -> None:
    """Tab comes to the file chooser, then to the samples; Enter decides; what is decided is read aloud."""
    page = open_page()
    page.wait_for_selector("#samples button")
    page.wait_for_selector("#rejects:not([hidden])")
    focused = "document.activeElement.id || document.activeElement.title || document.activeElement.textContent"
    order = []
    for _ in range(3):
        page.keyboard.press("Tab")
        order.append(page.evaluate(focused))
    assert order == ["Look at rejected images", "files", "a drawn ship"]
    page.keyboard.press("Enter")
    page.wait_for_selector("article[aria-label='a drawn ship']:not([data-state=pending])")
    assert page.locator("#log[aria-live=polite]").inner_text().startswith("a drawn ship: ")
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "files"
    assert page.locator("article").count() == 0


def test_bounds_are_rounded_up(open_page: Any) -> None:
    shares = [0.0001, 0.0004, 0.001, 0.0204, 0.05, 0.1, 0.29, 1]
    shown = open_page().evaluate("shares => import('./page/words.js').then(({atMost}) => shares.map(atMost))", shares)
    assert shown == ["0.1%", "0.1%", "0.1%", "2.1%", "5%", "10%", "29%", "100%"]


def test_traffic_is_live(open_page: Any, url: str, files: dict[str, Path]) -> None:
    """What others send shows without a reload."""
    page = open_page()
    page.wait_for_selector("#state:text('drift')")
    time.sleep(1.5)  # what earlier tests sent is counted once a second
    with httpx.Client(base_url=url, headers={"x-api-key": KEY}) as client:
        before = client.get("/drift").json()
        client.post("/classify", content=files["accept"].read_bytes())
    page.wait_for_selector(f"#traffic:has-text('the last {_images(before['images'] + 1)}')")
    rejected = 100 * before["rejected"] / (before["images"] + 1)
    share, _, what = page.locator("#traffic b").inner_text().partition("%")
    assert float(share) == pytest.approx(rejected, abs=0.051)
    assert what == " rejected as out of distribution"  # what alpha bounds; rejections as uncertain do not count
    assert page.locator("#state").get_attribute("role") == "status"


def _images(count: int) -> str:
    return "image" if count == 1 else f"{count} images"


def test_rejected_images_are_shown_and_deleted(open_page: Any, url: str, files: dict[str, Path], gate: Gate) -> None:
    with httpx.Client(base_url=url, headers={"x-api-key": KEY}) as client:
        for name in ("first", "second"):
            answer = client.post("/classify", content=files["reject"].read_bytes(), headers={"x-request-id": name})
            answer.raise_for_status()
        page = open_page()
        page.locator("#rejects a").click()
        page.wait_for_selector("#list[aria-busy=false]")
        for _ in range(50):
            if page.locator("#list li:has-text('request second')").count():
                break
            page.wait_for_timeout(100)  # rejects are written beside the traffic
            page.reload()
            page.wait_for_selector("#list[aria-busy=false]")
        shown = page.locator("#list li").first
        assert "request second" in shown.inner_text()
        expected = gate.decide([files["reject"]])[0]
        assert gate.manifest.labels[expected.class_index] in shown.locator("h2").inner_text()
        shown.locator("img").scroll_into_view_if_needed()
        page.wait_for_load_state("networkidle")
        assert shown.locator("img").evaluate("image => image.naturalWidth") == 16

        count = page.locator("#list li").count()
        page.once("dialog", lambda dialog: dialog.dismiss())
        shown.locator("button").click()
        assert page.locator("#list li").count() == count
        page.once("dialog", lambda dialog: dialog.accept())
        shown.locator("button").click()
        page.wait_for_selector("#notice:text('Deleted.')")
        assert page.locator("#list li").count() == count - 1
        assert page.evaluate("document.activeElement.tagName") == "H2"
        kept = [record["request_id"] for record in client.get("/rejects").json()["rejects"]]
        assert "second" not in kept
        assert "first" in kept


@pytest.mark.parametrize("path", ["", "rejects.html"])
def test_narrow_and_dark(open_page: Any, files: dict[str, Path], path: str) -> None:
    """Nothing is cut off on the narrowest screens; text is far from its ground, in the dark too."""
    grounds = []
    for scheme in ("light", "dark"):
        page = open_page(path, viewport={"width": 320, "height": 640}, color_scheme=scheme)
        if path:
            page.wait_for_selector("#list[aria-busy=false]")
        else:
            page.set_input_files("#files", [str(path) for path in files.values()])
            for verdict in files:
                card(page, f"{verdict}.png", verdict).locator("summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") == 320
        ground, ink = (
            page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")
        )
        assert contrast(ground, ink) > 7
        grounds.append(luminance(ground))
    assert grounds[0] > 0.8
    assert grounds[1] < 0.05


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)`` (WCAG 2.2)."""
    shares = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_two_refusals_look_different_and_say_why(browser: Any, selective_bundle: Bundle, tmp_path: Path) -> None:
    """On a bundle that bounds the error of accepted answers, with label sets and with outcomes that came."""
    gate = Gate.load(selective_bundle.path, engine="onnxruntime-cpu", threads=1)
    images = [encode(image) for image in calibration_images(60, seed=3)]
    decided = zip(images, gate.decide(images), strict=True)
    found = {decision.reason or "accept": (image, decision) for image, decision in decided}
    assert set(found) == {"accept", "ood", "uncertain"}
    rejects = tmp_path / "rejects"
    rejects.mkdir()
    with serve(OODGATE_BUNDLE=str(selective_bundle.path), OODGATE_REJECTS=str(rejects)) as (url, _):
        page = browser.new_page(viewport={"width": 1000, "height": 2400})
        page.set_default_timeout(30_000)
        page.goto(url)
        page.wait_for_selector("#facts[aria-busy=false]")
        assert page.locator("#promise").inner_text() == gate.spec.promise
        looks = {}
        for reason, (image, decision) in found.items():
            page.set_input_files("#files", {"name": f"{reason}.png", "mimeType": "image/png", "buffer": image})
            shown = card(page, f"{reason}.png", {"ood": "reject"}.get(reason, reason))
            said = shown.locator(".said").inner_text()
            icon = shown.locator(".verdict path:visible").get_attribute("class")
            colour = shown.locator(".word").evaluate("element => getComputedStyle(element).color")
            looks[reason] = (shown.locator("h3").inner_text(), icon, colour)
            members = ", ".join(LABELS[k] for k, _ in decision.label_set(0.95))
            expected = f"One of: {members}. True of 95% of known images." if members else ""
            assert shown.locator(".set").inner_text() == expected
            if reason == "uncertain":
                assert said.startswith(f"It would have said {LABELS[decision.class_index]} (")
                assert "Its confidence is 0." in said
                assert "so that at most 5% of accepted answers are wrong." in said
        titles, icons, colours = (set(each) for each in zip(*looks.values(), strict=True))
        assert len(titles) == len(icons) == len(colours) == 3
        assert (looks["ood"][0], looks["uncertain"][0]) == (
            "Not something this model knows",
            "Known, but not certain enough",
        )
        answer = httpx.post(f"{url}/classify", content=found["accept"][0])
        httpx.post(f"{url}/outcomes", json={"request_id": answer.headers["x-request-id"], "label": None})
        page.wait_for_selector("#outcomes:has-text('100% of 1 accepted answers whose label came were wrong')")
        page.goto(f"{url}/rejects.html")
        page.wait_for_selector("#list article")
        figures = " ".join(page.locator(".figures").all_inner_texts())
        assert "Known, but uncertain: " in figures
        assert "Out of distribution: " in figures
        page.close()


def test_a_bundle_that_takes_another_s_place_is_noticed(
    browser: Any, selective_bundle: Bundle, unlabelled_bundle: Bundle, tmp_path: Path
) -> None:
    """By the next verdict: from one with label sets to one that has neither sets nor outcomes, to one with other classes."""
    other = write_bundle(tmp_path / "other", classifier(("truck", "frog", "horse")))
    image = encode(calibration_images(1, seed=3)[0])
    live = tmp_path / "live"

    def put(bundle: Bundle) -> str:
        write(live, bundle.manifest, {MODEL: bundle.model}, {})
        return bundle.manifest.files[MODEL].sha256

    put(selective_bundle)
    with serve(OODGATE_BUNDLE=str(live)) as (url, _), httpx.Client(base_url=url) as client:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.goto(url)
        page.wait_for_selector("#facts[aria-busy=false]")

        def decided(name: str) -> Any:
            page.set_input_files("#files", {"name": name, "mimeType": "image/png", "buffer": image})
            page.wait_for_selector(f"article[aria-label='{name}']:not([data-state=pending])")
            return page.locator(f"article[aria-label='{name}']").first

        first = decided("first")
        bars = first.locator(".known").inner_text()
        assert bars.startswith("Bars: ")
        for bundle, labels in (
            (unlabelled_bundle, ["Images like those that calibrated it, without classes"]),
            (other, ["truck", "frog", "horse"]),
        ):
            sha256 = put(bundle)
            deadline = time.monotonic() + 20
            while client.get("/model").json()["sha256"] != sha256:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            shown = decided(bundle.manifest.model.name)
            assert shown.get_attribute("data-state") in ("accept", "reject")
            assert shown.locator(".known").inner_text().startswith("Bars: ")
            assert page.locator("#labels li").all_inner_texts() == labels
            assert page.locator("#footer").inner_text().endswith(sha256[:12])
            time.sleep(2.5)  # the page hears that there are no outcomes
        (decision,) = Gate.load(other.path, engine="onnxruntime-cpu", threads=1).decide([image])
        assert shown.locator(".top li").first.inner_text().startswith(other.manifest.labels[decision.class_index])
        words = shown.locator("h3").inner_text() + shown.locator(".said").inner_text()
        assert other.manifest.labels[decision.class_index] in words
        assert first.locator(".known").inner_text() == bars  # of the bundle that decided
        accepted = encode(
            next(one for one in calibration_images(20) if client.post("/classify", content=encode(one)).json()["label"])
        )
        answer = client.post("/classify", content=accepted)
        client.post("/outcomes", json={"request_id": answer.headers["x-request-id"], "label": None})
        page.wait_for_selector("#outcomes:has-text('100% of 1 accepted answers whose label came were wrong')")
        page.close()


def test_a_model_without_classes(browser: Any, unlabelled_bundle: Bundle, tmp_path: Path) -> None:
    """Accepted or rejected, and no word of a label or of confidence."""
    gate = Gate.load(unlabelled_bundle.path, engine="onnxruntime-cpu", threads=1)
    images = [encode(image) for image in calibration_images(40, seed=3)]
    decided = zip(images, gate.decide(images), strict=True)
    found = {decision.decision: (image, decision) for image, decision in decided}
    faults: list[str] = []
    with serve(OODGATE_BUNDLE=str(unlabelled_bundle.path), OODGATE_REJECTS=str(tmp_path)) as (url, _):
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#facts[aria-busy=false]")
        assert page.locator("#labels").inner_text() == "Images like those that calibrated it, without classes"
        titles = {"accept": "Something this model knows", "reject": "Not something this model knows"}
        for verdict, (image, decision) in found.items():
            page.set_input_files("#files", {"name": f"{verdict}.png", "mimeType": "image/png", "buffer": image})
            shown = card(page, f"{verdict}.png", verdict)
            assert shown.locator("h3").inner_text() == titles[verdict]
            assert shown.locator(".said").inner_text() == "It has no classes: it tells known images from others."
            assert shown.locator(".top li").count() == 0
            assert f"p\u00a0=\u00a0{decision.score.p_value:.2g}" in shown.locator(".p-value").inner_text()
            shown.locator("summary").click()
            assert len(shown.locator("tbody tr").all()) == 2
        page.goto(f"{url}/rejects.html")
        page.wait_for_selector("#list article")
        assert page.locator("#list h2").first.inner_text() == "Not something the model knows"
        assert page.locator(".figures").first.inner_text().startswith("Out of distribution. nan ")
        page.close()
    assert set(found) == set(titles)
    assert faults == []


def test_without_a_key_there_is_no_page(browser: Any, url: str) -> None:
    """The browser asks for it; there is nobody to type one."""
    page = browser.new_page()
    with pytest.raises(playwright.Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        page.goto(f"{url}/rejects.html")
    page.close()
