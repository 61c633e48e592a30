from __future__ import annotations

import gzip
import pickle
import zipfile
import zlib
from pathlib import Path

import pytest
import torch

from export.exceptions import ExportError
from export.from_torch.origin import kind
from train.exceptions import ModelError
from train.weights.files import read
from train.weights.strangers import of_directory, of_file

# What the formats begin with.
FILES = {
    "m.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), r"Keras writes it; convert it to ONNX"),
    "m.tflite": (b"\x1c\0\0\0TFL3" + bytes(64), "TensorFlow Lite; convert it to ONNX"),
    "saved_model.pb": (b"\x08\x01\x12\x02", "graph of TensorFlow; convert it to ONNX"),
    "openvino.xml": (b'<?xml version="1.0"?>\n<net name="m" version="11">', "OpenVINO"),
    "m.mlmodel": (b"\x08\x04\x12\x50\x0a\x10", "Core ML"),
    "lower.pth": (b"\n<!doctype html><html>", "web page"),
    "bom.pth": (b"\xef\xbb\xbf<html>", "web page"),
    "w.pth.gz": (gzip.compress(b"weights"), "unpack it"),
    "m.joblib": (b"\x80\x04\x95" + bytes(64), "skl2onnx"),
    "compressed.pkl": (zlib.compress(b"\x80\x04"), "skl2onnx"),
    "sklearn.pkl": (pickle.dumps({"module": "sklearn.linear_model"}), "skl2onnx"),
    "m.gguf": (b"GGUF\x03\0\0\0" + bytes(64), "GGUF"),
    "yolo.weights": (bytes(4) + b"\2\0\0\0", "Darknet"),
    "m.caffemodel": (b"\n\x08CaffeNet", "Caffe; export the network that it was made of"),
    "text.pth": (b"hello, this is no model\n", r"none of torch\.save or of safetensors: it begins with b'hello, t'"),
    "cut.pth": (b"PK\x03\x04" + bytes(64), "cut off"),
    "plain.pkl": (pickle.dumps({"fc.weight": [1.0]}), r"torch\.save did not write"),
    "config.json": (b'{"lr": 1}', "JSON, which has no weights"),
    "m.plan": (b"ftrt" + bytes(64), "TensorRT"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_others_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    content, message = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"not readable as weights: it is .*{message}"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("config.json", "metadata.json", "model.weights.h5"), "a model of Keras; convert it to ONNX"),
        (("weights/best.pth", "readme.txt"), r"a zip of weights/best\.pth, readme\.txt; unpack it"),
        (("best.pth",), r"a zip of best\.pth; unpack it"),
        (("p/.data/extern_modules", "p/model/model.pkl"), r"torch\.package"),
        (("fc.weight.npy", "fc.bias.npy"), r"NumPy arrays; make tensors"),
        (("Data/com.apple.CoreML/model.mlmodel",), "Core ML"),
    ],
)
def test_archives_of_others_are_refused_with_or_without_a_factory(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(ModelError, match=message):
        read(tmp_path / "w.zip")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("saved_model.pb", "TensorFlow's SavedModel; convert it to ONNX"),
        ("Manifest.json", "Core ML"),
        ("model.xml", "OpenVINO"),
        ("model.onnx", r"give the \.onnx file in it"),
        ("adapter_config.json", "merge_and_unload"),
    ],
)
def test_directories_of_others_are_refused_with_what_to_do(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ExportError, match=message):
        kind(tmp_path)


def test_directories_of_weights_that_torch_does_not_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(ModelError, match="several processes wrote; make one file of it"):
        read(tmp_path)
    with pytest.raises(ExportError, match="several processes wrote; make one file of it"):
        kind(tmp_path)


def test_a_directory_of_deepspeed(tmp_path: Path) -> None:
    (tmp_path / "global_step5").mkdir()
    (tmp_path / "global_step5" / "mp_rank_00_model_states.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="DeepSpeed's; give mp_rank_00"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("google/vit-base-patch16-224", r"hf download google/vit-base-patch16-224 --local-dir DIR"),
        ("https://download.pytorch.org/w.pth", "a URL, which is not fetched; download it"),
        ("models/w.pth", r"models/w\.pth: no such file$"),
    ],
)
def test_what_is_not_there_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match=message):
        kind(Path(name))
    with pytest.raises(ModelError, match=message):
        read(Path(name))


def test_an_empty_directory_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="it is empty"):
        kind(tmp_path)


def test_what_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"nothing of the kind")
    assert of_file(tmp_path / "w.pth") == "none of torch.save or of safetensors: it begins with b'nothing '"
    torch.save({"w": torch.zeros(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert of_file(tmp_path / "old.pth") is None
    assert of_directory(tmp_path) is None
    assert of_file(tmp_path / "absent") is None
