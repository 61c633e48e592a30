"""Is pipeline.onnx what the runtime and model.onnx say of an image of any size, on each engine, and what does it cost?

    python -m benchmarks.pipeline DATA [BUNDLE ..]

50 images: the photographs of DATA/photos.tar and drawn ones, from 1 x 1 to 12 megapixels and 1:400. Each is decoded whole;
`runtime.preprocess`'s resize and model.onnx are compared with pipeline.onnx, in bare ONNX Runtime. The same for every rule
of the manifest with a graph that shows its pixels. Then what decoding a large JPEG at a fraction of its size makes of it,
which a graph can't know; OpenVINO, and TensorRT-RTX's parser and builder; and the time a call, one thread. Writes
docs/measured/pipeline.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper
from PIL import Image

from benchmarks.paths import MEASURED, ROOT
from benchmarks.pixels.images import drawn, photographs, upright
from export.pipeline.graph import with_resize
from export.report.table import layout
from runtime.bundle import PIPELINE, Bundle
from runtime.command import run
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.engines.trt.library import load_library
from runtime.exceptions import EngineError
from runtime.manifest import InputSpec, Interpolation
from runtime.preprocess import fit, preprocess
from runtime.rule import Rule

Pixels = npt.NDArray[np.uint8]
Compile = Callable[[bytes], Callable[[Pixels], Pixels]]

# width, height
SIZES = [
    *[(1, 1), (1, 2), (2, 1), (3, 3), (9, 7), (16, 31), (31, 33), (32, 32), (33, 32), (48, 64), (100, 75), (101, 203)],
    *[(224, 224), (223, 225), (256, 256), (300, 61), (333, 250), (400, 1), (1, 400), (3, 1200), (450, 900), (480, 640)],
    *[(517, 1033), (640, 480), (719, 1279), (899, 300), (1024, 1024), (1111, 1500), (1200, 800), (1501, 301)],
    *[(1080, 2400), (1920, 1080), (2592, 1944), (4000, 3000), (3000, 4000)],
]
TIMED = [(32, 32), (224, 224), (640, 480), (1280, 960), (1920, 1080), (4000, 3000)]
RULES: dict[str, dict[str, Any]] = {
    "center, crop_fraction 0.875": {"crop_fraction": 0.875},
    "shortest 256": {"resize": "shortest", "resize_to": 256},
    "shortest 256, floor": {"resize": "shortest", "resize_to": 256, "corner": "floor"},
    "shortest (213, 284)": {"resize": "shortest", "resize_to": (213, 284)},
    "squash": {"resize": "squash"},
    "border (248, 248)": {"resize": "border", "resize_to": (248, 248)},
    "none": {"resize": "none"},
}
FILTERS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
_REPEATS = 5


def session(data: bytes) -> onnxruntime.InferenceSession:
    """A bare session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def shown(spec: InputSpec) -> bytes:
    """A model that outputs the pixels that it is given."""
    shape = ("N", spec.height, spec.width, 3)
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("images", "pixels")]
    node = helper.make_node("Identity", ["images"], ["pixels"])
    graph = helper.make_graph([node], "pixels", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return with_resize(bytes(model.SerializeToString()), spec)


def pixel_rows(
    rules: Mapping[str, dict[str, Any]],
    filters: tuple[Interpolation, ...],
    images: Sequence[Image.Image],
    compile_: Compile,
) -> Iterator[list[str]]:
    """A line a rule and arithmetic: how many pixels differ from the runtime's, and by how much."""
    for name, options in rules.items():
        for resampler in ("pillow", "torch") if options.get("resize") else ("pillow",):
            different = largest = total = 0
            for filter_ in filters:
                spec = InputSpec(
                    224, 224, (0.0,) * 3, (1.0,) * 3, interpolation=filter_, resampler=resampler, **options
                )
                show = compile_(shown(spec))
                for image in images:
                    gaps = np.abs(show(np.asarray(image)).astype(int) - fit(image, spec))
                    different, largest = different + int((gaps > 0).sum()), max(largest, int(gaps.max()))
                    total += gaps.size
            yield [name, resampler, ", ".join(filters), f"{total:,}", f"{different:,}", str(largest)]


def in_onnxruntime(data: bytes) -> Callable[[Pixels], Pixels]:
    ready = session(data)
    return lambda image: np.asarray(ready.run(None, {"image": image})[0][0])


def in_openvino(data: bytes) -> Callable[[Pixels], Pixels]:
    import openvino

    core = openvino.Core()
    ready = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: np.asarray(ready([image])[0][0])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What two ways to the decision make of some images.

    Attributes:
        pixels: the largest difference in grey levels; None where the pixels can't be seen.
        scores: the largest difference of a score, relative beyond 1.
        flips: decisions that differ.
    """

    images: int
    pixels: int
    scores: float
    flips: int

    def row(self) -> list[str]:
        return [str(self.images), str(self.pixels), f"{self.scores:.2g}", str(self.flips)]


def compared(
    bundle: Bundle,
    images: Sequence[Image.Image],
    behind: Any,
    compile_: Compile,
    pixels: Sequence[Pixels] | None = None,
) -> Outcome:
    """pipeline.onnx on decoded images, against model.onnx on the runtime's pixels of them, or on those given."""
    spec, engine, rule = bundle.manifest.input, OnnxRuntimeCpu(bundle.model, threads=1), Rule.of(bundle.manifest)
    show = compile_(shown(spec))
    largest, worst, flips = 0, 0.0, 0
    for i, image in enumerate(images):
        whole = np.asarray(image)
        expected = fit(image, spec) if pixels is None else pixels[i]
        right = engine.run(expected[np.newaxis])
        scores, accept = behind(whole)
        gaps = np.abs(scores - right.scores) / np.maximum(1, np.abs(right.scores))
        worst = max(worst, float(gaps.max()))
        flips += int(bool(accept[0]) != bool(rule.verified(right)[0]))
        largest = max(largest, int(np.abs(show(whole).astype(int) - expected).max()))
    return Outcome(len(images), largest, worst, flips)


def ort_pipeline(data: bytes) -> Callable[[Pixels], Any]:
    ready = session(data)
    return lambda image: ready.run(["scores", "accept"], {"image": image})


def openvino_pipeline(data: bytes) -> Callable[[Pixels], Any]:
    import openvino

    core = openvino.Core()
    ready = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def call(image: Pixels) -> Any:
        found = ready([image])
        return [found[name] for name in ("scores", "accept")]

    return call


def built_by_rtx(data: bytes) -> str:
    """What TensorRT-RTX's parser and builder make of it."""
    try:
        library = load_library("tensorrt-rtx")
    except EngineError as error:
        return str(error)
    log = library.Logger(library.Logger.ERROR)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, log)
    if not parser.parse(data):
        return f"not parsed: {parser.get_error(0)}"
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    config.num_compute_capabilities = 1
    config.set_compute_capability(library.ComputeCapability.SM89, 0)
    profile.set_shape("image", (1, 1, 3), (480, 640, 3), (4000, 4000, 3))
    config.add_optimization_profile(profile)
    start = perf_counter()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return "parsed, not built"
    size, taken = len(bytes(plan)), perf_counter() - start
    return f"parsed, and built for images of 1 x 1 to 4000 x 4000: {size / 1e6:.1f} MB in {taken:.0f} s"


def fastest(call: Callable[[], object]) -> float:
    """Milliseconds of processor time of the cheapest of some calls, for which it does not matter what else runs."""
    call()
    times = []
    for _ in range(_REPEATS):
        start = process_time()
        call()
        times.append(process_time() - start)
    return 1000 * min(times)


def cost_rows(bundle: Bundle, behind: Callable[[Pixels], Any]) -> Iterator[list[str]]:
    """Milliseconds a call, one thread."""
    engine, spec = OnnxRuntimeCpu(bundle.model, threads=1), bundle.manifest.input
    for width, height in TIMED:
        image = drawn(width, height)
        whole, pixels = np.asarray(image), fit(image, spec)[np.newaxis]
        model = fastest(lambda pixels=pixels: engine.run(pixels))  # type: ignore[misc]
        resize = fastest(lambda image=image: fit(image, spec))  # type: ignore[misc]
        pipeline = fastest(lambda whole=whole: behind(whole))  # type: ignore[misc]
        yield [f"{width} x {height}", *(f"{value:.1f}" for value in (model, resize, pipeline, pipeline - model))]


def jpegs(images: Sequence[Image.Image]) -> list[bytes]:
    buffers = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92)
        buffers.append(buffer.getvalue())
    return buffers


def page(data: Path, bundles: Sequence[Path]) -> str:
    photos = photographs(data / "photos.tar", 15)
    images = [*map(upright, photos), *(drawn(*size) for size in SIZES)]
    head = ["images", "largest pixel difference", "largest score difference", "flips"]
    agreement, costs, rtx = [], [], []
    for path in bundles:
        bundle = Bundle.load(path)
        pipeline = bundle.read(PIPELINE) if PIPELINE in bundle.manifest.files else None
        pipeline = pipeline or with_resize(bundle.model, bundle.manifest.input)
        name, spec = f"{bundle.manifest.model.name} ({bundle.manifest.model.arch})", bundle.manifest.input
        behind = ort_pipeline(pipeline)
        agreement.append([name, "ONNX Runtime", *compared(bundle, images, behind, in_onnxruntime).row()])
        agreement.append([name, "OpenVINO", *compared(bundle, images, openvino_pipeline(pipeline), in_openvino).row()])
        large = [image for image in images if min(image.size) >= 480]
        files = [*photos, *jpegs(large)]
        seen = [upright(file) for file in files]
        drafted = [preprocess(file, spec) for file in files]
        agreement.append(
            [name, "ONNX Runtime, of JPEG files", *compared(bundle, seen, behind, in_onnxruntime, drafted).row()]
        )
        costs.append((name, list(cost_rows(bundle, behind))))
        rtx.append(f"{name}: {built_by_rtx(pipeline)}.")
    some = [*images[:4], *(drawn(*size) for size in SIZES if max(size) <= 450)]
    few = {name: RULES[name] for name in ("shortest 256", "squash")}
    rules = [["ONNX Runtime", *row] for row in pixel_rows(RULES, FILTERS, some, in_onnxruntime)]
    for filters in (FILTERS[:1], FILTERS[1:]):
        rules += [["OpenVINO", *row] for row in pixel_rows(few, filters, some, in_openvino)]
    return PAGE.format(
        count=len(images),
        photos=len(photos),
        agreement=layout([["bundle", "in", *head], *agreement], markdown=True),
        some=len(some),
        rules=layout(
            [["in", "rule", "arithmetic", "filters", "pixels", "differ", "by at most"], *rules], markdown=True
        ),
        rtx="\n".join(rtx),
        costs="\n\n".join(
            f"{name}:\n\n"
            + layout(
                [["image", "model.onnx", "Pillow's resize", "pipeline.onnx", "more than model.onnx"], *rows],
                markdown=True,
            )
            for name, rows in costs
        ),
        versions=f"ONNX Runtime {onnxruntime.__version__}, Pillow {Image.__version__}",
    )


PAGE = """# pipeline.onnx: the resize inside the graph

By `python -m benchmarks.pipeline DATA BUNDLE ..`, {versions}. {count} images: {photos} photographs
and drawn ones, from 1 x 1 to 4000 x 3000 and 1:400, decoded whole. On one side the runtime's resize and model.onnx, on the
other pipeline.onnx with the decoded image. Score differences are relative where a score is beyond 1.

{agreement}

The last line of a bundle takes files: where the manifest's rule is `center` the runtime decodes a large JPEG at a fraction of
its size, which is other pixels than a whole decode and no work of a graph. Other rules decode whole.

## Every rule

Pixels of {some} of the images, 224 x 224, by graphs that show them; differences in grey levels of 255.

{rules}

OpenVINO computes double precision in single: a weight may be off by some units of 2 ** -22, and `nearest` take the pixel
beside.

## TensorRT-RTX

{rtx}

## What it costs

Milliseconds of processor time a call, one thread, the least of {repeats} calls.

{costs}
""".replace("{repeats}", str(_REPEATS))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with photos.tar")
    parser.add_argument("bundles", type=Path, nargs="*", metavar="BUNDLE", default=[ROOT / "bundles" / "cifar10"])
    args = parser.parse_args(argv)
    (MEASURED / "pipeline.md").write_text(page(args.data, args.bundles))
    return 0


if __name__ == "__main__":
    run(main)
