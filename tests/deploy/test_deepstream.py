"""The files for DeepStream, which is not here to try them: they name the shipped bundle's tensors, size and labels."""

from __future__ import annotations

import configparser
from pathlib import Path

from runtime.bundle import Bundle

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "deepstream"


def properties(name: str) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.read(FOLDER / name)
    return dict(parser["property"])


def test_they_fit_the_bundle() -> None:
    inference, prepared = properties("nvinfer.txt"), properties("preprocess.txt")
    model = (FOLDER / inference["onnx-file"]).resolve()
    bundle = Bundle.load(model.parent)
    assert model.read_bytes() == bundle.model
    size = bundle.manifest.input
    assert inference["infer-dims"] == f"{size.height};{size.width};3"
    assert prepared["network-input-shape"] == f"{inference['batch-size']};{inference['infer-dims']}"
    assert (prepared["processing-height"], prepared["processing-width"]) == (str(size.height), str(size.width))
    assert (prepared["tensor-name"], prepared["target-unique-ids"]) == ("images", inference["gie-unique-id"])
    labels = (FOLDER / inference["labelfile-path"]).read_text().strip().split(";")
    assert labels == list(bundle.manifest.labels)


def test_they_say_that_they_are_untested() -> None:
    for name in ("nvinfer.txt", "preprocess.txt"):
        assert "Untested" in (FOLDER / name).read_text().splitlines()[0]
