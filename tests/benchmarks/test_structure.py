"""The figures of a tree small enough to count by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import structure
from benchmarks.structure import circles, figures, parse, read_revision, read_tree, rooms, table

TREE = {
    "train/__init__.py": "",
    "train/loop.py": '''\
from typing import TYPE_CHECKING

from runtime import gate
from train.data import read, sets

if TYPE_CHECKING:
    from train.model import Model


def loop(model: "Model", *, epochs: int = 1) -> None:
    for _ in range(epochs):
        gate.check(read(sets))


class Loop:
    def __init__(self, *sizes):
        self.sizes = sizes
''',
    "train/model.py": '''\
class Model:
    @staticmethod
    def make(width):
        from train import loop

        return loop

    def size(self) -> int: return 3
''',
    "train/data/__init__.py": "from .sets import SETS\n\n\ndef read(x: object) -> object:\n    return x\n",
    "train/data/sets.py": "import train.loop\nSETS = train.loop\n",
    "runtime/__init__.py": "",
    "runtime/gate.py": "import os.path\n\n\nasync def check(x: object, **rest: object) -> str:\n    return os.path.sep\n",
}  # fmt: skip


def test_imports_are_of_the_trees_own_modules_anywhere_and_of_every_form() -> None:
    assert {name: module.imports for name, module in parse(TREE).items()} == {
        "train": set(),
        "train.loop": {"runtime.gate", "train.data", "train.data.sets", "train.model"},
        "train.model": {"train.loop"},
        "train.data": {"train.data.sets"},
        "train.data.sets": {"train.loop"},
        "runtime": set(),
        "runtime.gate": set(),
    }


def test_functions_are_measured_and_looked_at() -> None:
    found = {name: module.functions for name, module in parse(TREE).items() if module.functions}
    assert found == {
        "train.loop": [(3, True), (2, False)],
        "train.model": [(4, False), (1, True)],
        "train.data": [(2, True)],
        "runtime.gate": [(2, True)],
    }


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, 0),
        ({"a": {"b"}, "b": {"a"}}, 1),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, 1),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, 2),
    ],
)
def test_circles(graph: dict[str, set[str]], count: int) -> None:
    assert circles(graph) == count


def test_rooms_and_the_pairs_of_them_that_know_each_other() -> None:
    assert rooms(parse(TREE), "train") == (3, 2)  # loop, model, data; loop and model, loop and data
    assert rooms(parse(TREE), "runtime") == (1, 0)


def test_the_row_of_a_package() -> None:
    # 0, 2, 5, 8 and 17 lines; functions of 1, 2, 2, 3 and 4, of which the second and the last lack a type
    assert figures(parse(TREE), "train") == [
        *("train", "5", "32", "5", "17", "train.loop 17", "2", "60 %", "1", "3", "2")
    ]  # fmt: skip


def test_the_row_of_all() -> None:
    assert figures(parse(TREE)) == ["in all", "7", "37", "5", "17", "train.loop 17", "2", "66 %", "1", "", ""]


def test_the_90th_percentile_is_the_smallest_that_nine_of_ten_do_not_exceed() -> None:
    tree = {f"export/m{i:02}.py": "x = 1\n" * i + "def f(): ...\n" for i in range(1, 21)}
    assert figures(parse(tree), "export")[3:5] == ["11.5", "19"]


def test_a_table_says_what_changed() -> None:
    lines = table(parse(TREE | {"runtime/rule.py": "def f(): ...\n"}), parse(TREE)).splitlines()
    assert lines[3] == (
        "| runtime | 2 → 3 | 5 → 6 | 2.5 → 1 | 5 | runtime.gate 5 | 2 → 1.5 | 100 % → 50 % | 0 | 1 → 2 | 0 |"
    )
    assert lines[2] == "| oodgate |" + "  |" * 10


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository whose only revision holds TREE and a file of no package; its files have changed since."""
    for path, text in {**TREE, "benchmarks/other.py": "x = 1\n"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    git = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    (tmp_path / "runtime" / "gate.py").write_text("")
    return tmp_path


def test_a_revision_is_read_as_it_was(clone: Path) -> None:
    assert read_revision(clone, "HEAD") == TREE
    assert read_tree(clone) == {**TREE, "runtime/gate.py": ""}


def test_a_clone_without_the_revision(clone: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: no revision 10594f2 here .*git fetch --unshallow"):
        read_revision(clone, "10594f2")


def test_writing_replaces_what_is_between_the_marks(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = clone / "page.md"
    page.write_text(f"# House\n\n{structure.BEGIN}\nold\n{structure.END}\n\nEnd.\n")
    for name, value in (("ROOT", clone), ("PAGE", page)):
        monkeypatch.setattr(structure, name, value)
    structure.main(["--rev", "HEAD", "--write"])
    written = page.read_text()
    assert written.startswith(f"# House\n\n{structure.BEGIN}\n\n| package |")
    assert "| runtime | 2 | 5 → 0 |" in written
    assert written.endswith(f"|\n\n{structure.END}\n\nEnd.\n")
    assert "old" not in written
