"""The C++ example: compiled, and its decisions are Python's. Needs cmake, a compiler and ONNX Runtime's headers."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from PIL import Image

from benchmarks.paths import SAMPLES
from runtime import Gate
from runtime.bundle import Bundle
from runtime.golden.document import Golden, read
from runtime.preprocess import decoded
from tests.gates import KINDS, gated
from tests.profiles import P3, rgb_profile
from tests.runtime.engines.ort.test_cpu import EIGHT_BITS, eight_bits
from tests.small import calibration_images, encode
from tests.writers import png

SOURCE = Path(__file__).resolve().parents[2] / "examples" / "cpp"
SHIPPED = SOURCE.parents[1] / "bundles" / "cifar10"
LIBRARIES = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
INCLUDES = [Path(prefix, "include", "onnxruntime") for prefix in (sys.prefix, "/usr", "/usr/local")]
IMAGES = calibration_images(100, seed=11)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cmake") or not shutil.which("c++"):
        pytest.skip("no cmake, or no C++ compiler")
    if not LIBRARIES:
        pytest.skip("this onnxruntime has no library to link with")
    include = next((folder for folder in INCLUDES if (folder / "onnxruntime_cxx_api.h").exists()), None)
    if include is None:
        pytest.skip(f"no ONNX Runtime headers; examples/cpp/headers.sh {INCLUDES[0]} fetches them")
    build = tmp_path_factory.mktemp("cpp")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # to link with, and the name that is asked for at start
        (build / name).symlink_to(LIBRARIES[0])
    library = [f"-DONNXRUNTIME_INCLUDE={include}", f"-DONNXRUNTIME_LIBRARY={build / 'libonnxruntime.so'}"]
    flags = ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-Werror"]
    for command in (["cmake", "-S", SOURCE, "-B", build, *library, *flags], ["cmake", "--build", build]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "oodgate"


def run(program: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "images.rgb").write_bytes(IMAGES.tobytes())
    return tmp_path / "images.rgb"


def answers(output: str) -> tuple[list[bool], list[int], npt.NDArray[np.float32]]:
    """Accept, class and scores of each line."""
    rows = [line.split() for line in output.splitlines()]
    scores = np.array([row[2:] for row in rows], dtype=np.float32)
    return [row[0] == "accept" for row in rows], [int(row[1]) for row in rows], scores


def test_decides_as_python_does(program: Path, raw: Path, shared_bundle: Bundle) -> None:
    decisions = Gate.load(shared_bundle.path, engine="onnxruntime-cpu").decide(IMAGES)
    done = run(program, shared_bundle.path / "model.onnx", raw)
    assert done.returncode == 0, done.stderr
    accept, classes, scores = answers(done.stdout)
    assert len(accept) == 100
    assert 0 < sum(accept) < 100
    assert accept == [not decision.is_ood for decision in decisions]
    assert classes == [decision.class_index for decision in decisions]
    np.testing.assert_allclose(scores, [list(decision.scores.values()) for decision in decisions], rtol=1e-5)


def test_a_threshold_moves_the_decision(program: Path, raw: Path, shared_bundle: Bundle) -> None:
    model = shared_bundle.path / "model.onnx"
    _, _, scores = answers(run(program, model, raw).stdout)
    energy = scores[:, shared_bundle.manifest.scores.index("energy")]
    for threshold in (*np.quantile(energy, [0.25, 0.75], method="nearest"), np.float32(1e30)):
        accept, _, _ = answers(run(program, model, raw, repr(float(threshold))).stdout)
        np.testing.assert_array_equal(accept, energy >= threshold)


def test_a_bound_on_the_error_is_in_the_graph(program: Path, raw: Path, selective_bundle: Bundle) -> None:
    """C++, bare ONNX Runtime and Python accept the same images, at every operating point."""
    gate, model = Gate.load(selective_bundle.path, engine="onnxruntime-cpu"), selective_bundle.path / "model.onnx"
    bare = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    reasons = set()
    default, _, _ = answers(run(program, model, raw).stdout)
    assert default == bare.run(["accept"], {"images": IMAGES})[0].tolist()
    for alpha in gate.alphas:
        point = gate.spec.at(alpha)
        assert point.selection is not None
        decisions = gate.decide(IMAGES, alpha=alpha)
        accept, _, _ = answers(run(program, model, raw, repr(point.threshold), repr(point.selection.threshold)).stdout)
        assert accept == [decision.decision == "accept" for decision in decisions]
        reasons |= {decision.reason for decision in decisions}
        assert alpha != gate.spec.alpha or accept == default
    assert reasons == {None, "ood", "uncertain"}


def test_a_threshold_does_not_stand_for_those_of_classes(
    program: Path, raw: Path, shared_bundle: Bundle, tmp_path: Path
) -> None:
    made = gated(tmp_path / "small", shared_bundle, KINDS["of classes"])
    accept, _, _ = answers(run(program, made.path / "model.onnx", raw).stdout)
    decisions = Gate.load(made.path, engine="onnxruntime-cpu").decide(IMAGES)
    assert accept == [decision.decision == "accept" for decision in decisions]
    done = run(program, made.path / "model.onnx", raw, "1.5")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "each class has a threshold of its own, which a single one would replace" in done.stderr


def test_graphs_of_eight_bits_are_computed_as_they_say(program: Path, tmp_path: Path) -> None:
    (tmp_path / "eight.onnx").write_bytes(eight_bits().SerializeToString())
    (tmp_path / "white.rgb").write_bytes(bytes([255] * 4))
    done = run(program, tmp_path / "eight.onnx", tmp_path / "white.rgb")
    assert done.returncode == 0, done.stderr
    _, classes, scores = answers(done.stdout)
    assert classes == [0]
    np.testing.assert_allclose(scores, [EIGHT_BITS], atol=0.0101)


def test_a_model_without_classes(program: Path, raw: Path, unlabelled_bundle: Bundle) -> None:
    decisions = Gate.load(unlabelled_bundle.path, engine="onnxruntime-cpu").decide(IMAGES)
    done = run(program, unlabelled_bundle.path / "model.onnx", raw)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [decision.decision for decision in decisions]
    assert len({row[0] for row in rows}) == 2
    assert {row[1] for row in rows} == {"-"}
    scores = np.array([row[2:] for row in rows], dtype=np.float32)
    np.testing.assert_allclose(scores, [list(decision.scores.values()) for decision in decisions], rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "usage: oodgate"),
        (["MODEL", "nowhere.rgb"], 1, "error: nowhere.rgb: can't be read"),
        (["MODEL", "SHORT"], 1, "expected 768 bytes an image, found 5 bytes"),
        (["nowhere.onnx", "RAW"], 1, "error: "),
        (["MODEL", "RAW", "1.5x"], 1, "error: the threshold must be a number, found 1.5x"),
        (["MODEL", "RAW", "1.5", "high"], 1, "error: the threshold must be a number, found high"),
        (["MODEL", "RAW", "1.5", "0.5"], 1, "selection_threshold"),
        (["MODEL", "RAW", "1.5", "0.5", "0.5"], 2, "usage: oodgate"),
    ],
)
def test_what_is_wrong_is_one_line(
    program: Path, raw: Path, shared_bundle: Bundle, arguments: list[str], status: int, message: str
) -> None:
    short = raw.with_name("short.rgb")
    short.write_bytes(b"short")
    names = {"MODEL": shared_bundle.path / "model.onnx", "RAW": raw, "SHORT": short}
    done = run(program, *(names.get(argument, argument) for argument in arguments))
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def golden() -> Golden:
    found = read(Bundle.load(SHIPPED))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def ppm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden JPEG as PPM, by the command in docs/edge.md."""
    path = tmp_path_factory.mktemp("cpp") / "rotated.ppm"
    page = (SOURCE.parents[1] / "docs" / "edge.md").read_text()
    (command,) = re.findall(r"^ +python (-c .+) photo.jpg photo.ppm$", page, re.MULTILINE)
    subprocess.run([sys.executable, *shlex.split(command), SHIPPED / "golden" / "rotated.jpg", path], check=True)
    return path


def test_golden_images_of_any_size(program: Path, golden: Golden, ppm: Path) -> None:
    """The graph that resizes gives Python's scores to 1e-5, and its decision, for PNG and PPM."""
    if "libpng" not in subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout:
        pytest.skip("built without libpng; apt install libpng-dev")
    assert len(golden.images) == 12
    for image in golden.images:
        file = SHIPPED / "golden" / image.file if image.file.endswith(".png") else ppm
        done = run(program, SHIPPED / "pipeline.onnx", file)
        assert done.returncode == 0, done.stderr
        (accept,), (found,), scores = answers(done.stdout)
        assert (accept, found) == (image.decision == "accept", image.class_index), file
        np.testing.assert_allclose(scores[0], list(image.scores.values()), rtol=1e-5, err_msg=str(file))
    assert {image.decision for image in golden.images} == {"reject"}  # drawn pictures, none of what the bundle knows
    (known,) = Gate.load(SHIPPED, engine="onnxruntime-cpu", threads=1).decide([SAMPLES / "ship.png"])
    (accept,), (found,), _ = answers(run(program, SHIPPED / "pipeline.onnx", SAMPLES / "ship.png").stdout)
    assert (accept, found, known.decision) == (True, known.class_index, "accept")


def test_the_ppm_has_the_golden_pixels(golden: Golden, ppm: Path) -> None:
    (image,) = (image for image in golden.images if image.file == "rotated.jpg")
    header, _, pixels = ppm.read_bytes().partition(b"\n255\n")
    assert header == f"P6\n{image.width} {image.height}".encode()
    assert hashlib.sha256(pixels).hexdigest() == image.decoded


def test_pixels_of_every_png_are_pillow_s(program: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    """Half-transparent, 16-bit and interlaced ones too: as PPM of the library's pixels they give the same scores."""
    colours = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    deep = Image.fromarray(rng.integers(0, 65536, (40, 50), dtype=np.uint16))
    deep.save(tmp_path / "deep.png")
    (tmp_path / "alpha.png").write_bytes(encode(colours))
    (tmp_path / "grey_alpha.png").write_bytes(encode(colours[..., 2:]))
    spec = Bundle.load(SHIPPED).manifest.input
    for file in sorted(tmp_path.glob("*.png")):
        pixels = decoded(file.read_bytes(), spec)
        Image.fromarray(pixels).save(tmp_path / "same.ppm")
        same = run(program, SHIPPED / "pipeline.onnx", tmp_path / "same.ppm").stdout
        assert run(program, SHIPPED / "pipeline.onnx", file).stdout == same, file.name


def exif(orientation: int, order: str) -> bytes:
    """A directory of a width and, if it is not 0, of an orientation."""
    tags = [(0x0100, 50), *([(0x0112, orientation)] if orientation else [])]
    entries = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(("where", "order"), [("before", "<"), ("before", ">"), ("after", ">")])
def test_a_png_that_has_to_be_turned_is_refused(program: Path, tmp_path: Path, where: str, order: str) -> None:
    pixels = np.arange(40 * 50 * 3).reshape(40, 50, 3) % 251
    (tmp_path / "plain.png").write_bytes(png(pixels, 8, 2))
    plain = run(program, SHIPPED / "pipeline.onnx", tmp_path / "plain.png").stdout
    spec, upright = Bundle.load(SHIPPED).manifest.input, pixels.astype(np.uint8)
    for orientation in range(10):
        data = png(pixels, 8, 2, **{where: [(b"eXIf", exif(orientation, order))]})
        (tmp_path / "exif.png").write_bytes(data)
        done = run(program, SHIPPED / "pipeline.onnx", tmp_path / "exif.png")
        if np.array_equal(decoded(data, spec), upright):
            assert orientation in (0, 1, 9)
            assert done.stdout == plain
        else:
            assert orientation in range(2, 9)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
            assert "exif.png: its EXIF says that it is turned; save it upright" in done.stderr


def test_exif_that_is_cut_off_says_nothing(program: Path, tmp_path: Path) -> None:
    pixels, whole = np.zeros((40, 50, 3), int), exif(6, ">")
    for length in (4, 8, 10, 22, 30):
        (tmp_path / "exif.png").write_bytes(png(pixels, 8, 2, before=[(b"eXIf", whole[:length])]))
        done = run(program, SHIPPED / "pipeline.onnx", tmp_path / "exif.png")
        assert done.returncode == 0, done.stderr


def test_a_profile_is_refused_where_colours_are_to_be_srgb(program: Path, tmp_path: Path) -> None:
    """As the shipped bundle says; where a bundle says `ignore`, numbers are taken as they are."""
    image = Image.fromarray(IMAGES[0])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "wide.png", icc_profile=rgb_profile(P3, 0))
    model = onnx.load(SHIPPED / "pipeline.onnx")
    (said,) = model.metadata_props
    assert json.loads(said.value)["input"]["colour"] == "srgb"
    said.value = json.dumps(json.loads(said.value) | {"input": json.loads(said.value)["input"] | {"colour": "ignore"}})
    onnx.save(model, tmp_path / "ignoring.onnx")
    shipped, plain, wide = SHIPPED / "pipeline.onnx", tmp_path / "plain.png", tmp_path / "wide.png"
    expected = run(program, shipped, plain).stdout
    assert expected
    assert [run(program, tmp_path / "ignoring.onnx", file).stdout for file in (plain, wide)] == [expected, expected]
    done = run(program, shipped, wide)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "wide.png: it has a colour profile; save it in sRGB, without one" in done.stderr


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P6 2 1 255 12345", "expected 6 bytes of pixels, found 5"),
        (b"P6\n# a comment\n2 1\n65535\n" + bytes(12), "expected 8 bits a sample, found a largest of 65535"),
        (b"P6 0 1 255 ", "the header of this PPM is damaged"),
        (b"P6 99999999999999999999 1 255 1", "the header of this PPM is damaged"),
        (b"P6", "the header of this PPM is damaged"),
        (b"\x89PNG\r\n\x1a\n and no more", "PNG"),
        (b"\xff\xd8\xff\xe0 JFIF", "neither a binary PPM nor a PNG"),
        (b"", "neither a binary PPM nor a PNG"),
    ],
)
def test_what_is_no_image_is_one_line(program: Path, tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "image").write_bytes(data)
    done = run(program, SHIPPED / "pipeline.onnx", tmp_path / "image")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert message in done.stderr
