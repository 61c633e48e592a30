"""Files that are ONNX, and files that are not: one line each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.exceptions import ExportError
from export.from_onnx.file import is_onnx, read
from export.origin import in_memory
from tests.export.from_onnx.graphs import torch_like
from train.descriptions.description import Description


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(torch_like().SerializeToString())
    return path


def test_a_file_is_known_by_its_content(file: Path, tmp_path: Path) -> None:
    assert is_onnx(file)
    other = tmp_path / "checkpoint"
    other.write_bytes(file.read_bytes())
    assert is_onnx(other)
    for content in (
        b"PK\x03\x04 a zip",
        b"\x80\x02 a pickle",
        b"\x08\x3a\0\0\0\0\0\0{}",
        b"\x08\x09\x12",
        b"",
        b"# text",
    ):
        other.write_bytes(content)
        assert not is_onnx(other)
    assert not is_onnx(tmp_path)
    assert not is_onnx(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "a pointer of Git LFS, 64 bytes"),
        (b"a text that somebody called so", "not readable as ONNX"),
        (b"", "there is no graph with outputs"),
        (b"\x20\0\0\0ORTM\0\0", "ONNX Runtime's own format"),
        (torch_like().SerializeToString()[:900], "not readable as ONNX"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "there is no graph with outputs"),
    ],
    ids=["Git LFS", "text", "empty", "ORT format", "truncated", "no graph"],
)
def test_what_is_no_onnx_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nowhere\.onnx: no such file"):
        read(tmp_path / "nowhere.onnx")


def test_weights_that_are_fewer_than_their_shape_says(file: Path) -> None:
    model = onnx.load(file)
    model.graph.initializer[0].dims[0] = 10**6
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"damaged: the weights 'conv.w' of shape \[1000000, 3, 3, 3\] should be"):
        read(file)


def test_weights_that_are_not_there(file: Path) -> None:
    model = onnx.load(file)
    model.graph.initializer[0].ClearField("raw_data")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=r"'conv.w' of shape \[8, 3, 3, 3\] should be 216 numbers, found 0"):
        read(file)


def test_a_model_in_memory_whose_weights_are_in_a_file(file: Path) -> None:
    external(file)
    with pytest.raises(
        ExportError, match=r"^graph: the weights 'conv.w' are in a file beside it; load it with onnx.load"
    ):
        in_memory(onnx.load(file, load_external_data=False), Description(labels=("cat", "dog", "ship")))


def external(file: Path, location: str | None = None) -> None:
    """Move the weights into a file beside the model, and say that they are elsewhere."""
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if location is not None:
        model = onnx.load(file, load_external_data=False)
        for tensor in model.graph.initializer:
            next(item for item in tensor.external_data if item.key == "location").value = location
        file.write_bytes(model.SerializeToString())


def test_weights_beside_the_file(file: Path) -> None:
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
    external(file)
    found = read(file)
    assert len(found.graph.initializer) == len(expected)
    for tensor in found.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), expected[tensor.name])


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", ""])
def test_weights_outside_the_folder(file: Path, location: str) -> None:
    (file.parent.parent / "secret.bin").write_bytes(bytes(10_000))
    external(file, location)
    with pytest.raises(ExportError, match="outside its folder"):
        read(file)


def test_weights_behind_a_link_to_the_outside(file: Path) -> None:
    external(file)
    outside = file.parent.parent / "secret.bin"
    (file.parent / "weights.bin").rename(outside)
    (file.parent / "weights.bin").symlink_to(outside)
    with pytest.raises(ExportError, match="a link to a file elsewhere"):
        read(file)


def test_weights_that_are_missing(file: Path) -> None:
    external(file)
    (file.parent / "weights.bin").unlink()
    with pytest.raises(ExportError, match=r"its weights are in weights\.bin, which is missing beside it"):
        read(file)


def test_weights_of_more_than_a_file_can_hold(file: Path) -> None:
    external(file)
    with (file.parent / "weights.bin").open("r+b") as weights:
        weights.truncate(3 * 10**9)  # without blocks
    with pytest.raises(ExportError, match=r"3\.0 GB of weights; a bundle's model\.onnx, .* has at most 2\.1 GB"):
        read(file)
