"""An image's answer: its own in every batch, and the same again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from export.checks.batches import check_batches
from export.checks.examination import examine
from export.classifier import Activations
from export.exceptions import ExportError
from tests.export.checks.networks import IMAGES, features, graph, logits, network, node

PLAIN = graph(node("Identity", "z", "logits"))


def own(images: npt.NDArray[np.uint8]) -> Activations:
    return logits(images).astype(np.float32), features(images).astype(np.float32)


def of_the_batch(images: npt.NDArray[np.uint8]) -> Activations:
    """As a contrast, or batch normalisation without running statistics, makes it."""
    z, a = own(images)
    return z - z.mean(axis=0), a


def penultimate_of_the_batch(images: npt.NDArray[np.uint8]) -> Activations:
    z, a = own(images)
    return z, a / a.max()


def noisy(images: npt.NDArray[np.uint8]) -> Activations:
    z, a = own(images)
    return z + np.random.default_rng().normal(0, 1, z.shape).astype(np.float32), a


class Drifting:
    """Statistics that every batch moves."""

    def __init__(self) -> None:
        self.mean = np.zeros(3, np.float32)

    def __call__(self, images: npt.NDArray[np.uint8]) -> Activations:
        z, a = own(images)
        self.mean = 0.9 * self.mean + 0.1 * z.mean(axis=0)
        return z - self.mean, a


def squeezed(images: npt.NDArray[np.uint8]) -> Activations:
    z, a = own(images)
    return z.squeeze(), a.squeeze()


def two_or_more(images: npt.NDArray[np.uint8]) -> Activations:
    if len(images) == 1:
        raise ValueError("Expected more than 1 value per channel when training")
    return own(images)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:3], IMAGES[:1]], ids=len)
def test_an_answer_of_its_own(images: npt.NDArray[np.uint8]) -> None:
    check_batches(own, images, "it", PLAIN)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (of_the_batch, "depends on the other images of the batch: alone, the logits differ"),
        (penultimate_of_the_batch, "the penultimate activations differ"),
        (noisy, "the same images are run again: dropout left on, or a state"),
        (Drifting(), "logits differ by up to .* when the same images are run again"),
        (squeezed, r"of a batch of 1 image the logits have the shape \[3\].*squeeze\(\) without a dimension"),
        (two_or_more, "fails on a batch of 1 image: Expected more than 1 value per channel"),
    ],
)
def test_one_that_is_not(run: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        check_batches(run, IMAGES, "it", PLAIN)  # type: ignore[arg-type]


def test_rounding_in_lower_precision_is_no_dependence() -> None:
    """A step of 8 bits here and there, as one batch is summed in another order than another."""

    def rounded(images: npt.NDArray[np.uint8]) -> Activations:
        z, a = own(images)
        z[0, 0] += 0.01 * np.ptp(z) * (len(images) == 1)
        return z, a

    check_batches(rounded, IMAGES, "it", PLAIN, share=3e-2)
    with pytest.raises(ExportError, match="depends on the other images"):
        check_batches(rounded, IMAGES, "it", PLAIN)


ONE = np.ones(6, np.float32)
CAUSES: dict[str, tuple[onnx.ModelProto, str]] = {
    "statistics of the batch": (
        graph(
            node("ReduceMean", "features batch", "mean"),
            node("Sub", "features mean", "centred"),
            node("Gemm", "centred w b", "logits", transB=1),
            batch=np.array([0]),
        ),
        "a statistic of the whole batch .ReduceMean",
    ),
    "batch norm": (
        graph(
            onnx.helper.make_node(
                "BatchNormalization",
                ["features", "layer1.bn.weight", "zeros", "mean", "one"],
                ["normal", "m", "v"],
                training_mode=1,
            ),
            node("Gemm", "normal w b", "logits", transB=1),
            **{"layer1.bn.weight": ONE, "zeros": 0 * ONE, "mean": 0 * ONE, "one": ONE},
        ),
        "batch normalisation without running statistics, or left in training, at layer1.bn",
    ),
    "dropout": (
        graph(node("Dropout", "z ratio on", "logits"), ratio=np.float32(0.5), on=np.array(True)),
        "dropout left on",
    ),
}


@pytest.mark.parametrize(("model", "message"), CAUSES.values(), ids=CAUSES)
def test_the_layer_that_causes_it_is_named(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        examine(network(model), IMAGES)


def test_the_exported_graph_is_tried_too() -> None:
    """A graph may mix what its origin does not."""

    class Faithful(type(network(PLAIN))):  # type: ignore[misc]
        def run(self, images: npt.NDArray[np.uint8]) -> Activations:
            return own(images)

    mixed = CAUSES["statistics of the batch"][0]
    classifier = network(PLAIN)
    with pytest.raises(ExportError, match=r"^the exported graph: its answer to an image depends"):
        examine(
            Faithful(*(getattr(classifier, name) for name in ("arch", "method", "task", "labels", "input")), mixed),
            IMAGES,
        )
