"""How is the house built? Modules, functions, import circles, rooms and arrows of each package.

    python -m benchmarks.structure [--rev REV] [--write]

Without --rev, of the files that are there; --write puts both, before and after, into docs/architecture.md.
"""

from __future__ import annotations

import argparse
import ast
import io
import math
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("oodgate", "runtime", "train", "export", "serving")
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- structure: python -m benchmarks.structure --rev REV --write -->", "<!-- /structure -->"
HEADER = (
    "package | modules | lines | median | 90th percentile | longest | function | annotated | circles | rooms | arrows"
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file: its lines, its functions' lengths and whether each is annotated in full, the modules it imports."""

    lines: int
    functions: list[tuple[int, bool]]
    imports: set[str]


def parse(sources: Mapping[str, str]) -> dict[str, Module]:
    """Modules by dotted name, of sources by path; imports anywhere in them, of other modules of `sources` only."""
    names = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in sources}
    modules = {}
    for name, path in names.items():
        tree = ast.parse(sources[path], path)
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        methods = {f for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for f in node.body}
        defined = [node for node in ast.walk(tree) if isinstance(node, Function)]
        functions = [((f.end_lineno or 0) - f.lineno + 1, _annotated(f, f in methods)) for f in defined]
        imports = {*_imported(tree, package, names)} - {name}
        modules[name] = Module(len(sources[path].splitlines()), functions, imports)
    return modules


def _annotated(function: Function, method: bool) -> bool:
    """Whether the result and every argument have a type, but for a method's `self` or `cls`."""
    given = function.args
    bound = method and not any(ast.unparse(decorator) == "staticmethod" for decorator in function.decorator_list)
    places = [*given.posonlyargs, *given.args][bound:] + given.kwonlyargs + [given.vararg, given.kwarg]
    return function.returns is not None and all(place.annotation for place in places if place)


def _imported(tree: ast.AST, package: str, names: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None] if node.level else []
            source = ".".join([*above, *filter(None, [node.module])])
            found = {f"{source}.{alias.name}" for alias in node.names}
            yield from {each if each in names else source for each in found} & names.keys()


def circles(graph: Mapping[str, set[str]]) -> int:
    """The groups of modules that import each other, directly or by way of others."""
    reach = {name: set(found) for name, found in graph.items()}
    for through in graph:  # Warshall's closure
        for found in reach.values():
            if through in found:
                found |= reach[through]
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph}
    return len(groups - {frozenset()})


def rooms(modules: Mapping[str, Module], package: str) -> tuple[int, int]:
    """The modules and folders at a package's top, and the pairs of them of which one imports the other."""
    room = {name: name.split(".")[1] for name in modules if name.startswith(f"{package}.")}
    links = {frozenset((room[name], room[other])) for name in room for other in modules[name].imports & room.keys()}
    return len({*room.values()}), sum(len(link) == 2 for link in links)


def figures(modules: Mapping[str, Module], package: str = "") -> list[str]:
    """The row of a package, or of all; of a package that is not there, empty cells."""
    own = {name: module for name, module in modules.items() if not package or name.split(".")[0] == package}
    if not own:
        return [package] + [""] * HEADER.count("|")
    lines = sorted(module.lines for module in own.values())
    longest = max(own, key=lambda name: own[name].lines)
    functions = [function for module in own.values() for function in module.functions] or [(0, True)]
    length, typed = statistics.median(f[0] for f in functions), statistics.mean(f[1] for f in functions)
    return [
        *(package or "in all", f"{len(own)}", f"{sum(lines):,}", f"{statistics.median(lines):g}"),
        *(f"{lines[math.ceil(0.9 * len(lines)) - 1]}", f"{longest} {own[longest].lines}"),
        *(f"{length:g}", f"{math.floor(100 * typed)} %"),
        f"{circles({name: module.imports & own.keys() for name, module in own.items()})}",
        *(map(str, rooms(modules, package)) if package else ("", "")),
    ]


def table(after: Mapping[str, Module], before: Mapping[str, Module] | None = None) -> str:
    """A row a package and one of all, as Markdown; with `before`, cells that changed say what they were."""
    rows = [HEADER, " | ".join(["---"] * (1 + HEADER.count("|")))]
    for package in (*PACKAGES, ""):
        new = figures(after, package)
        old = figures(before, package) if before else new
        cells = (f"{was} → {now}" if was and was != now else now for was, now in zip(old, new, strict=True))
        rows.append(" | ".join(cells))
    return "".join(f"| {row} |\n" for row in rows)


def read_tree(root: Path) -> dict[str, str]:
    """The sources that are there, by path."""
    files = (file for package in PACKAGES for file in sorted((root / package).rglob("*.py")))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def read_revision(root: Path, revision: str) -> dict[str, str]:
    """The sources of a revision, by path; exits with one line where the clone does not have it."""
    done = subprocess.run(["git", "archive", revision], cwd=root, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode().strip()
        sys.exit(f"error: no revision {revision} here ({reason}); in a shallow clone, git fetch --unshallow brings it")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        wanted = [m for m in tar if m.name.endswith(".py") and m.name.startswith(tuple(f"{p}/" for p in PACKAGES))]
        return {member.name: file.read().decode() for member in wanted if (file := tar.extractfile(member))}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description=__doc__.partition("\n")[0])
    parser.add_argument("--rev", help="a revision of git to look at, or with --write to compare with")
    parser.add_argument("--write", action="store_true", help=f"put the comparison into {PAGE.relative_to(ROOT)}")
    args = parser.parse_args(argv)
    before = parse(read_revision(ROOT, args.rev)) if args.rev else None
    if args.write:
        head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        text = f"{BEGIN}\n\n{table(parse(read_tree(ROOT)), before)}\n{END}{rest.partition(END)[2]}"
        PAGE.write_text(head + text, encoding="utf-8")
    else:
        print(table(before or parse(read_tree(ROOT))), end="")


if __name__ == "__main__":
    main()
