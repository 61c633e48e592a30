"""TensorRT-RTX parses and builds a graph with every detector; that needs its wheels, and no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from export.classifier import assemble
from export.detectors import DETECTORS
from export.detectors.distances.knn import Knn, KnnSettings
from export.detectors.distances.ssd import Ssd, SsdSettings
from export.detectors.interface import Fitted, Observed, Training
from export.from_torch.classifier import TorchClassifier
from export.graph.last_layers import LastLayers
from tests.export.detectors.graphs import with_detectors
from tests.export.detectors.test_all import ANY_LAYERS
from tests.export.graph.test_last_layers import Projection
from tests.small import LABELS, SPEC, classifier

trt: Any = pytest.importorskip("tensorrt_rtx_bindings")


def parsed(model: bytes) -> tuple[Any, Any]:
    """Its builder and network, strongly typed."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    return builder, network


@pytest.mark.parametrize(
    ("module", "kinds"),
    [(classifier().module, list(DETECTORS.values())), (Projection().eval(), ANY_LAYERS)],
    ids=["linear", "projection head"],
)
def test_builds_an_engine(module: nn.Module, kinds: list[type[Fitted]], rng: np.random.Generator) -> None:
    model, _ = assemble(TorchClassifier("small", "none", "multiclass", LABELS, SPEC, module), "small", {})
    layers, labels = LastLayers(model), np.arange(200) % 3
    width = model.graph.output[1].type.tensor_type.shape.dim[1].dim_value
    features = rng.random((200, width)).astype(np.float32)
    settings = {Knn: KnnSettings(5), Ssd: SsdSettings(3)}
    logits = layers(features).astype(np.float32)
    outliers = {"itself": Observed(logits, features)}
    training = Training(logits, features, labels, layers, settings=settings, outliers=outliers)
    model = with_detectors(model, *(training.fit(kind) for kind in kinds))

    builder, network = parsed(model.SerializeToString())
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("images", *((n, SPEC.height, SPEC.width, 3) for n in (1, 8, 64)))
    config.add_optimization_profile(profile)
    outputs = {network.get_output(i).name: tuple(network.get_output(i).shape) for i in range(network.num_outputs)}
    assert outputs["scores"] == (-1, 6 + len(kinds))
    assert builder.build_serialized_network(network, config) is not None
