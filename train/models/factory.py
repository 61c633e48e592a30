"""``package.module:factory(argument=1)`` or ``file.py:factory``: somebody's own code that builds a network."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import site
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from train.exceptions import ModelError

# The project's own packages, whose names a user's train.py or runtime/ may have too.
_OURS = ("export", "runtime", "serving", "train")
_LIBRARIES = frozenset(("torch", "torchvision", "timm", "transformers", "efficientnet_lite_pytorch"))
_FOLDER = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """A factory and how it is called.

    Attributes:
        module: its module's dotted name, or the path of a file.
        names: of the attributes that lead to it.
        arguments, named: literals.
    """

    module: str
    names: tuple[str, ...]
    arguments: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)


def parse(target: str, option: str = "--model") -> Target:
    """``package.module:factory``, ``file.py:factory`` or either with literal arguments, ``factory(num_classes=10)``.

    Raises:
        ModelError: another form, or an argument that is no literal.
    """
    module, _, expression = target.partition(":")
    if len(module) == 1 and expression[:1] in ("\\", "/"):  # a drive of Windows
        drive, (module, _, expression) = module, expression.partition(":")
        module = f"{drive}:{module}"
    try:
        call = ast.parse(expression.strip(), mode="eval").body
        named: dict[str, Any] = {}
        arguments: tuple[Any, ...] = ()
        if isinstance(call, ast.Call):
            arguments = tuple(ast.literal_eval(item) for item in call.args)
            named = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords if item.arg}
            call = call.func
        names = tuple(_names(call))
    except (SyntaxError, ValueError) as error:
        raise ModelError(
            f"{option} {target}: expected package.module:factory or file.py:factory, with literal arguments if any, such as "
            f"'torchvision.models:resnet18(num_classes=10)' ({error})"
        ) from error
    if not module:
        raise ModelError(f"{option} {target}: expected package.module:factory or file.py:factory")
    return Target(module, names, arguments, named)


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield from _names(node.value)
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    else:
        raise ValueError("not a name")


def build(target: str, file: str = "", option: str = "--model", *, typed: bool = True) -> nn.Module:
    """Import and call a factory.

    Args:
        target: names it, as :func:`parse` has it.
        file: where it was before, if it was called before: the file to take, if it is still there.
        option: by which it was given, for messages.
        typed: whether the user typed it; what only a checkpoint names must be something that builds networks.

    Raises:
        ModelError: it can't be imported, fails, or makes no torch module.
    """
    parsed = _found(parse(target, option), file)
    with theirs(_folder(parsed)):
        try:
            factory: Any = _import(parsed.module)
            for name in parsed.names:
                factory = getattr(factory, name)
        except (Exception, SystemExit) as error:  # a foreign module may raise anything
            before = f"; it was {file} before" if file else ""
            raise ModelError(
                f"{option} {target}: expected package.module:factory or file.py:factory that can be imported "
                f"({_said(error)}){before}"
            ) from error
        if not (typed or _builds_networks(factory)):
            raise ModelError(
                f"{option} {target}: not called, as a file alone asks for it: it is no class of torch modules, none of its "
                "methods, and no function beside such classes"
            )
        if isinstance(factory, nn.Module) and not (parsed.arguments or parsed.named):
            return factory
        try:
            module = factory(*parsed.arguments, **parsed.named)
        except (Exception, SystemExit) as error:  # a foreign factory may raise anything
            called = "with these" if parsed.arguments or parsed.named else "without"
            raise ModelError(
                f"{option} {target}: the factory fails when called {called} arguments: {_said(error)}"
            ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{option} {target}: expected a torch.nn.Module, found {type(module).__name__}")
    return module


def file_of(target: str) -> str:
    """The Python file in which a factory is, once it was called; "" where that can't be told."""
    parsed = parse(target)
    if _is_file(parsed.module):
        return str(Path(parsed.module).resolve())
    return str(getattr(sys.modules.get(parsed.module), "__file__", None) or "")


def _builds_networks(factory: object) -> bool:
    """Whether what a checkpoint names, which may be a stranger's, is code that builds networks, not just any function."""
    if isinstance(factory, nn.Module):
        return True
    owner = factory if isinstance(factory, type) else getattr(factory, "__self__", None)
    if isinstance(owner, type):
        return issubclass(owner, nn.Module)
    if isinstance(factory, functools.partial):
        return _builds_networks(factory.func)
    module = sys.modules.get(str(getattr(factory, "__module__", "")))
    if module is None or module.__name__.partition(".")[0] in sys.stdlib_module_names:
        return False
    return _has_networks(module) or (_is_own(module) and any(map(_leads_to_networks, vars(module).values())))


def _has_networks(module: ModuleType) -> bool:
    """Whether torch.nn, or a class of torch modules, is among its names."""
    return any(
        value is nn or (isinstance(value, type) and issubclass(value, nn.Module)) for value in vars(module).values()
    )


def _is_own(module: ModuleType) -> bool:
    """Whether it is a file of the user's, not one that is installed."""
    file = getattr(module, "__file__", None)
    installed = {Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix, *site.getsitepackages())}
    return bool(file) and not any(folder in Path(str(file)).resolve().parents for folder in installed)


def _leads_to_networks(value: object) -> bool:
    """Whether it is torch or a library of networks, something of one, or a module of the user's that has networks."""
    if not isinstance(value, ModuleType):
        return str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES
    return value.__name__.partition(".")[0] in _LIBRARIES or (_is_own(value) and _has_networks(value))


def _found(target: Target, file: str) -> Target:
    """The same factory where its file is, if that is still there."""
    return replace(target, module=file) if _is_file(target.module) and Path(file).is_file() else target


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it ends the program with {error.code!r}; keep what a script does under if __name__ == '__main__'"
    return " ".join(str(error).split()) or type(error).__name__


def _is_file(module: str) -> bool:
    return module.endswith(".py") or "/" in module or "\\" in module


def _folder(target: Target) -> Path:
    """Where the modules that it imports are looked for first: beside the file, or where the command is typed."""
    return Path(target.module).resolve().parent if _is_file(target.module) else Path.cwd()


def _import(module: str) -> ModuleType:
    if not _is_file(module):
        return importlib.import_module(module)
    path = Path(module)
    if not path.is_file():
        raise FileNotFoundError(f"{module}: no such file")
    spec = importlib.util.spec_from_file_location(f"model_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{module}: not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # where dataclasses and torch look a class's module up
    try:
        spec.loader.exec_module(loaded)
    except ImportError as error:
        if "relative import" not in str(error):
            raise
        return _import_in_package(path.resolve())
    return loaded


def _import_in_package(path: Path) -> ModuleType:
    """A file of a package, which imports the others relatively: by its dotted name, from where the package is."""
    names, folder = [path.stem, path.parent.name], path.parent
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
        names.append(folder.name)
    with theirs(folder.parent):
        return importlib.import_module(".".join(reversed(names)))


class _Theirs(MetaPathFinder):
    """Finds some names in one folder and nowhere else."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self._folder, self._names = str(folder), names

    def find_spec(
        self,
        name: str,
        path: Any = None,  # noqa: ARG002
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The module's place, where it is one of the names."""
        return PathFinder.find_spec(name, [self._folder], target) if name in self._names else None


@contextmanager
def theirs(folder: Path) -> Iterator[None]:
    """Import from `folder` as Python does of a script there, its train.py or runtime/ in place of the project's own."""
    names = tuple(name for name in _OURS if folder != _FOLDER and _has(folder, name))
    ours = {key: module for key, module in sys.modules.items() if key.partition(".")[0] in names}
    finder, entry = _Theirs(folder, names), str(folder)
    for key in ours:
        del sys.modules[key]
    added = entry not in sys.path
    if added:
        sys.path.insert(0, entry)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if added:  # stays, behind all others, for what the model imports as it runs
            sys.path.remove(entry)
            sys.path.append(entry)
        for key in [key for key in sys.modules if key.partition(".")[0] in names]:
            del sys.modules[key]
        sys.modules.update(ours)


def _has(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))
