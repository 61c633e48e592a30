"""Nothing of a pickle is run, whatever it asks for by whichever opcode; tensors come out all the same."""

from __future__ import annotations

import argparse
import builtins
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from train.exceptions import ModelError
from train.weights.files import read
from train.weights.pickles import PICKLE, Inert, state_of


def load(data: bytes) -> Any:
    return PICKLE.Unpickler(io.BytesIO(data)).load()


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


class State:
    """Runs as its state is set."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["path"].touch()


def by_reduce(path: Path, protocol: int) -> bytes:
    return pickle.dumps(Touch(path), protocol)


def by_build(path: Path, protocol: int) -> bytes:
    return pickle.dumps(State(path), protocol)


def by_builtin(path: Path, _: int) -> bytes:
    return f"""cbuiltins\nexec\n(S"open({str(path)!r}, 'w').close()"\ntR.""".encode()


def by_old_class(path: Path, _: int) -> bytes:
    return b"(S'touch %s'\nios\nsystem\n." % str(path).encode()


def by_object(path: Path, _: int) -> bytes:
    return b"(cos\nsystem\nS'touch %s'\no." % str(path).encode()


def by_a_name_with_dots(path: Path, _: int) -> bytes:
    """A global of protocol 4 is looked up attribute by attribute."""
    text = f"touch {path}".encode()
    return b"\x80\x04\x8c\x05torch\x8c\x11os.path.os.system\x93\x8c" + bytes([len(text)]) + text + b"\x85R."


def by_torch(path: Path, _: int) -> bytes:
    """A function of torch that reads another pickle."""
    inner = pickle.dumps(Touch(path))
    return pickle.dumps(_Call("torch.storage", "_load_from_bytes", inner))


class _Call:
    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self._call = (module, name, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        module, name, arguments = self._call
        return getattr(__import__(module, fromlist=[name]), name), arguments


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "make", [by_reduce, by_build, by_builtin, by_old_class, by_object, by_a_name_with_dots, by_torch]
)
def test_a_pickle_runs_nothing(tmp_path: Path, make: Callable[[Path, int], bytes], protocol: int) -> None:
    ran = tmp_path / "ran"
    assert isinstance(load(make(ran, protocol)), Inert)
    assert not ran.exists()


@pytest.mark.parametrize("make", [by_reduce, by_build, by_builtin, by_old_class, by_object, by_a_name_with_dots])
def test_which_python_would_run(tmp_path: Path, make: Callable[[Path, int], bytes]) -> None:
    ran = tmp_path / "ran"
    pickle.loads(make(ran, 2))
    assert ran.exists()


def test_nor_does_one_inside_a_file_of_torch(tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "w.pth"
    torch.save({"state_dict": {"fc.weight": torch.ones(3, 2)}, "hook": Touch(ran), "state": State(ran)}, path)
    found = read(path)
    assert not ran.exists()
    assert {name: list(state) for name, state in found.entries.items()} == {"state_dict": ["fc.weight"]}
    assert torch.equal(found.entries["state_dict"]["fc.weight"], torch.ones(3, 2))


@pytest.mark.parametrize("name", ["_rebuild_tensor_v2", "_rebuild_parameter_with_state", "_rebuild_from_type_v2"])
def test_what_tensors_are_made_of_can_be_given_no_function(tmp_path: Path, name: str) -> None:
    """Arguments in place of a storage or a state are inert themselves."""
    ran, module = tmp_path / "ran", "torch._tensor" if name == "_rebuild_from_type_v2" else "torch._utils"
    system = _Reference("os", "system")
    data = _Pickler.dumps(_Reference(module, name, system, system, (f"touch {ran}",), {"x": system}))
    with suppress(TypeError, AttributeError, RuntimeError):
        load(data)
    assert not ran.exists()


class _Reference:
    """A global, or a call of one, written without looking it up."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    def save(self, item: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(item, _Reference):
            super().save(item, save_persistent_id)
            return
        self.write(f"c{item.module}\n{item.name}\n".encode())
        if item.arguments:
            self.save(item.arguments)
            self.write(b"R")

    @classmethod
    def dumps(cls, item: object) -> bytes:
        file = io.BytesIO()
        cls(file, 2).dump(item)
        return file.getvalue()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
def test_a_whole_models_weights(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.save({"model": network(), "epoch": 3}, tmp_path / "w.pth", **options)
    found = read(tmp_path / "w.pth")
    expected = network().state_dict()
    assert found.pickled == "torch.nn.modules.container.Sequential"
    assert list(found.entries["model"]) == list(expected)
    assert all(torch.equal(found.entries["model"][name], value) for name, value in expected.items())


def test_buffers_that_are_not_saved_stay_out(tmp_path: Path) -> None:
    model = network()
    model.register_buffer("grid", torch.zeros(3), persistent=False)
    torch.save(model, tmp_path / "w.pth")
    assert "grid" not in read(tmp_path / "w.pth").entries[""]


def test_settings_and_what_else_training_scripts_save(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    torch.save(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict(),
            "args": argparse.Namespace(model="resnet18", out=Path("runs"), lr=np.float64(0.1)),
            "best": np.float32(0.9),
            "rng": np.random.get_state(),
            "device": torch.device("cpu"),
            "size": torch.Size([3]),
        },
        tmp_path / "w.pth",
    )
    found = read(tmp_path / "w.pth")
    assert list(found.entries) == ["model"]
    assert found.settings["model"] == "resnet18"
    assert all(torch.equal(found.entries["model"][name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_types_and_views(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = torch.arange(12).reshape(3, 4).to(dtype)
    state = {"a": whole, "b": whole[:, 1:3], "c": nn.Parameter(whole.float()).t()}
    torch.save(state, tmp_path / "w.pth")
    found = read(tmp_path / "w.pth").entries[""]
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert found["a"].dtype == dtype


def test_a_module_without_tensors_has_no_state() -> None:
    assert state_of(Inert()) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "web page"),
        (b"\x89HDF\r\n\x1a\n", r"HDF5.*ONNX"),
        (b"", "empty"),
    ],
)
def test_files_of_other_kinds_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match=rf"w\.pth: not readable as weights: .*{message}"):
        read(tmp_path / "w.pth")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="not readable as weights"):
        read(tmp_path / "w.pth")


def test_nothing_of_the_standard_library_is_imported() -> None:
    for module, name in (("os", "system"), ("builtins", "getattr"), ("torch", "load"), ("torch.hub", "load")):
        found = PICKLE.Unpickler(io.BytesIO()).find_class(module, name)
        assert issubclass(found, Inert)
        assert found not in (os.system, builtins.getattr, torch.load)
