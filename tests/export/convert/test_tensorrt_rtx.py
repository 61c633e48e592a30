"""TensorRT-RTX builds fp16 and int8 graphs, strongly typed; that needs its wheels, and no GPU."""

from __future__ import annotations

import pytest

from export.convert.half import to_half
from export.convert.int8 import Int8Options, quantise
from tests.export.convert.graphs import graph
from tests.small import SPEC, calibration_images

pytest.importorskip("tensorrt_rtx_bindings")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_builds_an_engine(precision: str) -> None:
    from tests.export.detectors.test_tensorrt_rtx import parsed, trt

    model, _ = graph()
    images = calibration_images(32)
    if precision == "fp16":
        to_half(model)
    else:
        quantise(model, images, images, Int8Options("tensorrt", "minmax"))
    builder, network = parsed(model.SerializeToString())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("images", *((n, SPEC.height, SPEC.width, 3) for n in (1, 8, 64)))
    config.add_optimization_profile(profile)
    outputs = {network.get_output(i).name: network.get_output(i).dtype for i in range(network.num_outputs)}
    floats = {"logits", "penultimate", "scores"}
    assert outputs == {**dict.fromkeys(floats, trt.DataType.FLOAT), "accept": trt.DataType.BOOL}
    assert builder.build_serialized_network(network, config) is not None
