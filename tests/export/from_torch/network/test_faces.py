"""What networks take other than normalised RGB in NCHW: found by trying or told, and computed inside the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from export.exceptions import ExportError
from export.from_torch.classifier import Column, Logits, TorchClassifier, of_module
from export.from_torch.network.faces import Face, Grey
from runtime.manifest import InputSpec
from tests.small import LABELS
from train.descriptions.description import Description

SPEC = InputSpec(12, 20, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
GIVEN = Description(labels=LABELS, size=(12, 20), mean=SPEC.mean, std=SPEC.std, resize="squash")


def images(count: int = 5) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 12, 20, 3), dtype=np.uint8)


def normalised(pixels: npt.NDArray[Any], mean: Any = SPEC.mean, std: Any = SPEC.std) -> Tensor:
    """NCHW, by hand in float64."""
    return torch.from_numpy((pixels / 255.0 - np.array(mean)) / np.array(std)).float().permute(0, 3, 1, 2)


class Network(nn.Module):
    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 6, 3)
        self.fc = nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Any:
        logits: Tensor = self.fc(torch.relu(self.conv(x)).mean(dim=(2, 3)))
        return logits


def logits(classifier: TorchClassifier, pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(classifier.run(pixels)[0])


def test_grey_is_pillows() -> None:
    pixels = images(40)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])
    found = Grey()(torch.from_numpy(pixels))[..., 0].numpy()
    np.testing.assert_array_equal(found, expected)


def test_one_channel_is_found_by_trying() -> None:
    network = Network(1).eval()
    classifier = of_module(network, "mine", replace(GIVEN, mean=(0.13,), std=(0.31,)))
    assert classifier.input.channels == "grey"
    assert "the model takes one channel: the graph makes images grey" in classifier.remarks
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images()])[..., None]
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(normalised(grey, (0.13,), (0.31,))))


def test_three_means_for_one_channel_are_said() -> None:
    of_three = of_module(Network(1).eval(), "mine", GIVEN)
    first = f"{GIVEN.mean[0]:g} and {GIVEN.std[0]:g}" if GIVEN.mean and GIVEN.std else ""
    assert f"of mean and std the first are taken, {first}: give one of each" in of_three.remarks
    of_one = of_module(Network(1).eval(), "mine", replace(GIVEN, mean=(0.13,), std=(0.31,)))
    assert not any("the first are taken" in line for line in of_one.remarks)


def test_bgr() -> None:
    network = Network().eval()
    classifier = of_module(network, "mine", replace(GIVEN, channels="bgr"))
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(normalised(images()).flip(1)))


def test_pixels_of_0_to_255() -> None:
    network = Network().eval()
    classifier = of_module(network, "mine", replace(GIVEN, mean=(0, 0, 0), std=(1 / 255,) * 3))
    raw = torch.from_numpy(images()).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(raw))


def test_rgba_is_opaque() -> None:
    network = Network(4).eval()
    given = replace(GIVEN, channels="rgba", mean=(*SPEC.mean, 0.25), std=(*SPEC.std, 0.5))
    classifier = of_module(network, "mine", given)
    x = torch.cat((normalised(images()), torch.full((5, 1, 12, 20), 1.5)), dim=1)
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(x))


class ChannelsLast(Network):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.permute(0, 3, 1, 2))


def test_channels_last_is_found_by_trying() -> None:
    network = ChannelsLast().eval()
    classifier = of_module(network, "mine", GIVEN)
    assert "the model takes channels last: the graph turns the axes" in classifier.remarks
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(normalised(images()).permute(0, 2, 3, 1)))


class Viewed(nn.Module):
    """Takes images, or what a convolution makes of them, apart by view."""

    def __init__(self, convolution: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 2, 3, padding=1) if convolution else nn.Identity()
        self.fc = nn.Linear(12 * 20 * (2 if convolution else 3), 3)

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return self.fc(x.view(x.size(0), -1))


@pytest.mark.parametrize("convolution", [False, True])
def test_networks_that_view_their_images_get_channels_first(convolution: bool) -> None:
    network = Viewed(convolution).eval()
    classifier = of_module(network, "mine", GIVEN)
    assert "the model takes channels last: the graph turns the axes" not in classifier.remarks
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(normalised(images()).contiguous()))


class Encoder(nn.Module):
    """torch's own layer of a transformer, which has a path of its own in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True)
        self.layers, self.fc = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.layers(x.mean(1).transpose(1, 2)).mean(1))


def test_torch_s_transformer_is_exported() -> None:
    network = Encoder().eval()
    classifier = of_module(network, "mine", GIVEN)
    model = classifier.graph()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: images()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), network(normalised(images())), rtol=1e-4, atol=1e-5)


def test_who_takes_either_order_gets_channels_first_and_it_is_said() -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12 * 20 * 3, len(GIVEN.labels or ()))).eval()
    classifier = of_module(network, "mine", GIVEN)
    assert any(line.startswith("the model takes channels last as well as first") for line in classifier.remarks)
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(normalised(images())))
    assert not any("as well as" in line for line in of_module(Network().eval(), "mine", GIVEN).remarks)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype: torch.dtype) -> None:
    network = Network().to(dtype).eval()
    classifier = of_module(network, "mine", GIVEN)
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network.float()(normalised(images())))


def test_the_graph_takes_rgb_whatever_the_network_does() -> None:
    classifier = of_module(Network(1).eval(), "mine", replace(GIVEN, mean=(0.13,), std=(0.31,)))
    session = ort.InferenceSession(classifier.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [12, 20, 3]
    for count in (1, 5):
        found, _ = session.run(None, {"images": images(count)})
        np.testing.assert_allclose(found, classifier.run(images(count))[0], atol=1e-5)


@pytest.mark.parametrize("change", [{"mean": (0, 0.1, 0.2)}, {"std": (1, 0.5, 0.7)}, {"channels": "bgr"}])
def test_the_same_network_behind_another_input(change: dict[str, Any]) -> None:
    network = Network().eval()
    spec = replace(SPEC, **change)
    before = of_module(network, "mine", GIVEN)
    classifier = replace(before, input=spec)
    x = normalised(images(), spec.mean, spec.std)
    x = x.flip(1) if spec.channels == "bgr" else x
    expected, penultimate = network(x), torch.relu(network.conv(x)).mean(dim=(2, 3))
    session = ort.InferenceSession(classifier.graph().SerializeToString(), providers=["CPUExecutionProvider"])
    for found in (classifier.run(images()), session.run(None, {"images": images()})):
        np.testing.assert_allclose(found[0], expected.detach(), atol=1e-5)
        np.testing.assert_allclose(found[1], penultimate.detach(), atol=1e-5)
    with torch.no_grad():
        features = torch.relu(network.conv(normalised(images()))).mean(dim=(2, 3))
    np.testing.assert_allclose(before.run(images())[1], features, atol=1e-5)


@pytest.mark.parametrize("last", [False, True])
def test_axes(last: bool) -> None:
    found = Face(SPEC, channels_last=last)(torch.from_numpy(images()))
    expected = normalised(images())
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1) if last else expected)


# --- outputs of other forms


class Output(dict[str, Tensor]):
    """As transformers' ModelOutput: a mapping with attributes."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]


class InMapping(Network):
    def forward(self, x: Tensor) -> Any:
        return Output(logits=super().forward(x), hidden=x)


class Named(NamedTuple):
    logits: Tensor
    auxiliary: None = None


class InNamedTuple(Network):
    def forward(self, x: Tensor) -> Any:
        return Named(super().forward(x))


class InList(Network):
    def forward(self, x: Tensor) -> Any:
        return [super().forward(x)]


class OneValue(Network):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)[:, 0]


def test_logits_among_other_things() -> None:
    network = InMapping().eval()
    classifier = of_module(network, "mine", GIVEN)
    assert isinstance(classifier.module, Logits)
    with torch.no_grad():
        torch.testing.assert_close(logits(classifier, images()), network(normalised(images()))["logits"])


@pytest.mark.parametrize("kind", [InNamedTuple, InList])
def test_logits_in_a_tuple_or_a_list(kind: type[Network]) -> None:
    network = kind().eval()
    found = logits(of_module(network, "mine", GIVEN), images())
    with torch.no_grad():
        torch.testing.assert_close(found, network(normalised(images()))[0])


def test_one_value_an_image_is_a_column() -> None:
    classifier = of_module(OneValue(classes=1).eval(), "mine", replace(GIVEN, labels=("cat", "dog")))
    assert isinstance(classifier.module, Column)
    assert logits(classifier, images()).shape == (5, 1)


@pytest.mark.parametrize("classes", [2, 6])
def test_another_number_of_outputs(classes: int) -> None:
    with pytest.raises(ExportError, match=rf"expected logits \[N, 3\] for 3 labels, found \[2, {classes}\]; other"):
        of_module(Network(classes=classes).eval(), "mine", GIVEN)


def test_a_network_that_takes_nothing_of_the_kind() -> None:
    with pytest.raises(ExportError, match=r"mine: fails on an input of shape \[2, 3, 12, 20\]: .*channels"):
        of_module(Network(5).eval(), "mine", GIVEN)
