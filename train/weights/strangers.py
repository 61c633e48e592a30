"""Files and directories of other frameworks, and what is no model: known by their first bytes, refused with a reason."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

_TENSORFLOW = "convert it to ONNX (python -m tf2onnx.convert) and give that"
_KERAS = "convert it to ONNX (model.export(format='onnx'), or tf2onnx) and give that"
_SCIKIT = (
    "a pickle without tensors, as scikit-learn, XGBoost and joblib write theirs; convert the model to ONNX (skl2onnx) and "
    "give that"
)
_ORIGINAL = "export the network that it was made of, or its ONNX file"
_COREML = f"a model of Core ML; {_ORIGINAL}"
_OPENVINO = f"a model of OpenVINO; {_ORIGINAL}"
_WEB = "a web page; download the file itself"
_PACKED = "compressed; unpack it and give the file in it"
_SAVE_AGAIN = "make tensors of them and write these by torch.save or as safetensors"
_PLAIN_PICKLE = (
    "a pickle that torch.save did not write; load it where you trust it, and write its weights by torch.save or as "
    "safetensors"
)
# The number that torch.save wrote first before it made zip files.
_OF_TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19"

_SIGNS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself by git lfs pull"),
    (0, b"\x89HDF", f"HDF5, as Keras writes it; {_KERAS}"),
    (4, b"TFL3", f"a model of TensorFlow Lite; {_TENSORFLOW}"),
    (0, b"\x93NUMPY", f"a NumPy array; {_SAVE_AGAIN}"),
    (0, b"\x1f\x8b", _PACKED),
    (0, b"BZh", _PACKED),
    (0, b"\xfd7zXZ", _PACKED),
    (0, b"(\xb5/\xfd", _PACKED),
    (0, b"7z\xbc\xaf", _PACKED),
    (0, b"Rar!", _PACKED),
    (0, b"GGUF", f"GGUF; {_ORIGINAL}"),
    (4, b"ET12", f"a program of ExecuTorch; {_ORIGINAL}"),
    (0, b"ftrt", "an engine of TensorRT, made for one kind of GPU; give the ONNX file that it was made of"),
)
# joblib compresses by zlib, which has no other sign than these; torch never does.
_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
_BY_SUFFIX: dict[str, str] = {
    ".pb": f"a graph of TensorFlow; {_TENSORFLOW}",
    ".mlmodel": _COREML,
    ".joblib": _SCIKIT,
    ".caffemodel": f"a model of Caffe; {_ORIGINAL}",
    ".weights": f"weights of Darknet, it seems; {_ORIGINAL}",
    ".params": f"weights of MXNet, it seems; {_ORIGINAL}",
    ".pdmodel": f"a model of PaddlePaddle; {_ORIGINAL}",
    ".pdparams": f"weights of PaddlePaddle; {_ORIGINAL}",
    ".msgpack": f"weights of Flax; {_ORIGINAL}",
    ".engine": "an engine of TensorRT, made for one kind of GPU; give the ONNX file that it was made of",
    ".index": f"a part of a checkpoint of TensorFlow; {_TENSORFLOW}",
}
_IN_DIRECTORY: tuple[tuple[str, str], ...] = (
    ("saved_model.pb", f"TensorFlow's SavedModel; {_TENSORFLOW}"),
    ("checkpoint", f"a checkpoint of TensorFlow, it seems; {_TENSORFLOW}"),
    ("Manifest.json", _COREML),
    ("*.xml", _OPENVINO),
    ("*.onnx", "ONNX; give the .onnx file in it"),
    (
        "*.distcp",
        "a checkpoint that several processes wrote; make one file of it: python -m "
        "torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY FILE",
    ),
    ("*/*model_states.pt", "DeepSpeed's; give mp_rank_00_model_states.pt in it, or what its zero_to_fp32.py makes"),
    ("MLmodel", "MLflow's; give the weights in its data/"),
    ("adapter_config.json", "an adapter of PEFT without the model; merge it (merge_and_unload) and save that"),
    ("flax_model.msgpack", "Flax's; load it in transformers 4 by from_pretrained(from_flax=True), and save that"),
    ("tf_model.h5", "TensorFlow's; load it in transformers 4 by from_pretrained(from_tf=True), and save that"),
)


def of_file(path: Path) -> str | None:
    """What a file is that torch can't read, and what to do; None where that can't be told."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return "a directory" if path.is_dir() else None
    if not head:
        return "empty"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return of_archive(archive.namelist())
    signed = next((text for at, sign, text in _SIGNS if head[at : at + len(sign)] == sign), None)
    return signed or _of_text(head) or _BY_SUFFIX.get(path.suffix.lower()) or _of_pickle(head) or _of_nothing(head)


def of_missing(path: Path) -> str:
    """What to say of a checkpoint that is not there: a URL and a name on the Hugging Face hub are never fetched."""
    text = path.as_posix()
    if text.startswith(("http:/", "https:/", "hf:/", "s3:/", "gs:/")):
        return f"{path}: a URL, which is not fetched; download it and give the file"
    if text.count("/") == 1 and not path.suffix and not path.parent.exists():
        return f"{path}: no such file; from the Hugging Face hub: hf download {text} --local-dir DIR, and give DIR"
    return f"{path}: no such file"


def of_archive(names: Sequence[str]) -> str | None:
    """What a zip of these files is."""
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return f"a model of Keras; {_KERAS}"
    if any(name.endswith(".mlmodel") for name in names):
        return _COREML
    if any(name.endswith("/.data/extern_modules") for name in names):
        return "a package of torch.package, which is code; load it where you trust it, and torch.save its state_dict"
    if names and all(name.endswith(".npy") for name in names):
        return f"NumPy arrays; {_SAVE_AGAIN}"
    if not any(name.endswith(("data.pkl", "/version")) for name in names):
        return f"a zip of {', '.join(list(names)[:3]) or 'nothing'}; unpack it and give the file in it"
    return None


def of_directory(path: Path) -> str | None:
    """What a directory without config.json is."""
    if not any(path.iterdir()):
        return "empty"
    return next((text for pattern, text in _IN_DIRECTORY if any(path.glob(pattern))), None)


def _of_text(head: bytes) -> str | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return _WEB
    if text.startswith((b"<?xml", b"<net")):
        return f"{_OPENVINO if b'<net' in text else 'XML'}"
    if text.startswith((b"{", b"[")) and text.isascii():
        return "JSON, which has no weights"
    return None


def _of_pickle(head: bytes) -> str | None:
    """torch writes its own number first; what begins as a pickle otherwise is somebody else's."""
    if head.startswith(_ZLIB):
        return _SCIKIT
    safetensors = head[8:9] == b"{"  # behind a length, whose bytes may be any
    if head[:1] != b"\x80" or not 2 <= head[1] <= 5 or _OF_TORCH in head[:32] or safetensors:
        return None
    return _SCIKIT if any(word in head for word in _LIBRARIES) else _PLAIN_PICKLE


def _of_nothing(head: bytes) -> str | None:
    if head.startswith(b"PK"):
        return "cut off: a zip without its end; fetch it again"
    known = head[:1] == b"\x80" or head[8:9] == b"{"  # a pickle; safetensors
    return None if known else f"none of torch.save or of safetensors: it begins with {head[:8]!r}"


_LIBRARIES = (b"sklearn", b"xgboost", b"lightgbm", b"catboost", b"joblib")
