"""What else takes pipeline.onnx: OpenVINO within one grey level, and TensorRT-RTX's parser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.pixels.images import drawn
from export.pipeline.graph import with_resize
from runtime.bundle import Bundle
from runtime.engines.trt.library import load_library
from runtime.exceptions import EngineError
from runtime.preprocess import fit
from tests.export.pipeline.test_graph import SIZES, bare, most, spec


@pytest.mark.parametrize("options", [{"resize": "shortest", "resize_to": 27, "interpolation": "bicubic"}, {}])
def test_openvino_is_within_one_grey_level(options: dict[str, Any]) -> None:
    openvino = pytest.importorskip("openvino")
    rule, core = spec(**options), openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    ready = core.compile_model(core.read_model(with_resize(bare(rule), rule)), "CPU", settings)
    for size in SIZES:
        image = drawn(*size)
        assert most(np.asarray(ready([np.asarray(image)])[0][0]), fit(image, rule)) <= 1, size


def test_tensorrt_rtx_parses_it(shared_bundle: Bundle) -> None:
    try:
        library = load_library("tensorrt-rtx")
    except EngineError as error:
        pytest.skip(str(error))
    log = library.Logger(library.Logger.ERROR)
    builder = library.Builder(log)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, log)
    model = with_resize(shared_bundle.model, shared_bundle.manifest.input)
    assert parser.parse(model), [str(parser.get_error(i)) for i in range(parser.num_errors)]
