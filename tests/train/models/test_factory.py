"""``--model``: how it is written, and whose modules are imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from train.exceptions import ModelError
from train.models.factory import Target, build, parse, theirs

MODEL = "from torch import nn\n\ndef make(width=3, *, depth=1):\n    return nn.Linear(width, depth)\n"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a.b:make", Target("a.b", ("make",))),
        ("a.b:Net.build", Target("a.b", ("Net", "build"))),
        ("m.py:make()", Target("m.py", ("make",))),
        ("m.py:make(10)", Target("m.py", ("make",), (10,))),
        ("a:make(classes=10, name='x', sizes=[1, 2], off=None, eps=-1e-3)",
         Target("a", ("make",), (), {"classes": 10, "name": "x", "sizes": [1, 2], "off": None, "eps": -1e-3})),
        ("C:\\models\\m.py:make", Target("C:\\models\\m.py", ("make",))),
    ],
)  # fmt: skip
def test_how_it_is_written(target: str, expected: Target) -> None:
    assert parse(target) == expected


@pytest.mark.parametrize(
    "target",
    [
        "a:make(open('x'))",
        "a:make(x)",
        "a:make(**{})(3)",
        "a:make(",
        "a:1",
        "a",
        ":make",
        "a:__import__('os').system('true')",
    ],
)
def test_arguments_are_literals(target: str) -> None:
    with pytest.raises(ModelError, match=r"expected package\.module:factory or file\.py:factory"):
        parse(target)


@pytest.mark.parametrize(
    "target",
    ["os:system('true')", "builtins:print", "torch.hub:load('a/b', 'c')", "numpy:load('x.npy')", "pathlib:Path"],
)
def test_a_checkpoint_calls_no_other_code(target: str) -> None:
    with pytest.raises(ModelError, match="not called, as a file alone asks for it"):
        build(target, typed=False)


@pytest.mark.parametrize("target", ["torch.nn:Identity", "tests.train.factories:small", "tests.train.factories:kept"])
def test_a_checkpoint_calls_what_builds_networks(target: str) -> None:
    assert isinstance(build(target, typed=False), nn.Module)


@pytest.mark.parametrize(
    "text",
    [
        "import torch\n\ndef make():\n    return torch.nn.Linear(3, 4)\n",
        "import torch as t\nimport functools\nmake = functools.partial(t.nn.Linear, 3, 4)\n",
        "import functools\nimport layers_beside\nmake = functools.partial(layers_beside.make, 3)\n",
        "import layers_beside\n\ndef make():\n    return layers_beside.make(3)\n",
        "from torch.nn import Linear as L\n\ndef make():\n    return L(3, 4)\n",
    ],
    ids=["torch alone", "partial", "partial of another", "a module beside", "a class by another name"],
)
def test_a_checkpoint_calls_a_users_file_that_leads_to_networks(tmp_path: Path, text: str) -> None:
    (tmp_path / "layers_beside.py").write_text(MODEL)
    (tmp_path / "m.py").write_text(text)
    try:
        assert isinstance(build(f"{tmp_path / 'm.py'}:make", typed=False), nn.Linear)
    finally:
        sys.modules.pop("layers_beside", None)


def test_a_checkpoint_calls_no_users_file_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import os\n\ndef make():\n    os.remove('x')\n")
    with pytest.raises(ModelError, match="not called, as a file alone asks for it"):
        build(f"{tmp_path / 'm.py'}:make", typed=False)


def test_a_checkpoint_calls_no_function_of_an_installed_file() -> None:
    with pytest.raises(ModelError, match="not called, as a file alone asks for it"):
        build(f"{Path(torch.__file__).parent / 'hub.py'}:load('a/b', 'c')", typed=False)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(MODEL)
    module = build(f"{tmp_path / 'm.py'}:make(5, depth=2)")
    assert isinstance(module, nn.Linear)
    assert (module.in_features, module.out_features) == (5, 2)


def test_a_file_imports_what_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "layers_of_mine.py").write_text(MODEL)
    (tmp_path / "m.py").write_text("from layers_of_mine import make\n")
    assert isinstance(build(f"{tmp_path / 'm.py'}:make"), nn.Linear)


@pytest.mark.parametrize("package", ["package_of_mine", "outer_of_mine/inner", "train"])
@pytest.mark.parametrize("has_init", [True, False])
def test_a_file_of_a_package_imports_the_others_relatively(tmp_path: Path, package: str, has_init: bool) -> None:
    folder = tmp_path / package
    folder.mkdir(parents=True)
    for level in (folder, folder.parent) if has_init and "/" in package else (folder,):
        if has_init:
            (level / "__init__.py").touch()
    (folder / "layers.py").write_text(MODEL)
    (folder / "m.py").write_text("from .layers import make\n")
    found = build(f"{folder / 'm.py'}:make(4)")
    assert isinstance(found, nn.Linear)
    assert found.in_features == 4
    for name in [name for name in sys.modules if name.startswith((package.partition("/")[0] + ".", "inner."))]:
        if "train" not in name:
            del sys.modules[name]


def test_a_module_itself(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(MODEL + "model = make(7)\n")
    found = build(f"{tmp_path / 'm.py'}:model")
    assert isinstance(found, nn.Linear)
    assert found.in_features == 7


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.py: no such file"):
        build(f"{tmp_path / 'nowhere.py'}:make")


def test_a_script_that_exits_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import sys\nsys.exit(2)\n")
    with pytest.raises(ModelError, match="it ends the program with 2; keep what a script does under if __name__"):
        build(f"{tmp_path / 'm.py'}:make")


@pytest.mark.parametrize("name", ["train", "export", "runtime", "serving"])
@pytest.mark.parametrize("form", ["{name}:make", "{name}.py:make", "{folder}/{name}.py:make"])
def test_a_users_module_of_the_name_of_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    import export
    import runtime
    import train

    (tmp_path / f"{name}.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    ours = (export, runtime, train, sys.modules["train.exceptions"])
    assert isinstance(build(form.format(name=name, folder=tmp_path)), nn.Linear)
    assert (
        sys.modules["export"],
        sys.modules["runtime"],
        sys.modules["train"],
        sys.modules["train.exceptions"],
    ) == ours


def test_users_modules_import_each_other_by_those_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "__init__.py").write_text("")
    (tmp_path / "runtime" / "layers.py").write_text(MODEL)
    (tmp_path / "train.py").write_text("from runtime.layers import make\n")
    late = "def late():\n    import runtime.layers as found\n    return found.make()\n"
    (tmp_path / "export.py").write_text(f"from train import make\n\n{late}")
    monkeypatch.chdir(tmp_path)
    assert isinstance(build("export:make"), nn.Linear)
    assert isinstance(build("export:late"), nn.Linear)
    assert sys.modules["runtime"].__file__ != str(tmp_path / "runtime" / "__init__.py")


def test_ours_are_found_where_the_folder_has_none_of_those_names(tmp_path: Path) -> None:
    import train

    with theirs(tmp_path):
        assert sys.modules["train"] is train


def test_sys_path_and_finders_are_as_before(tmp_path: Path) -> None:
    before = list(sys.meta_path), sys.path[:1]
    with theirs(tmp_path):
        assert sys.path[0] == str(tmp_path)
    assert (list(sys.meta_path), sys.path[:1]) == before
    sys.path.remove(str(tmp_path))
