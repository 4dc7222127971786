"""What modules and objects offer, and how a registration describes it."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from . import shipped

DOC_CHARS_MAX = 16 << 10


def functions_of(source: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    if isinstance(source, (str, Path)):
        source = load(str(source))
    if isinstance(source, types.ModuleType):
        yield from _public(source)
    elif isinstance(source, dict):
        yield from source.items()
    elif inspect.isroutine(source) or hasattr(source, "__wrapped__"):
        yield source.__name__, source
    elif isinstance(source, (list, tuple, set, frozenset)):
        for part in source:
            yield from functions_of(part)
    elif isinstance(source, (Iterable, type)):
        raise TypeError(f"{source!r:.80} offers no functions")
    else:
        yield from _methods(source)


def _public(module: types.ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """`__all__` if there is one; else the module's own public functions, and the public methods of
    its instances of classes defined in it."""
    listed = getattr(module, "__all__", None)
    for name in listed if listed is not None else [name for name in vars(module) if not name.startswith("_")]:
        value = getattr(module, name)
        if isinstance(value, (type, types.ModuleType)):
            continue
        if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
            # The C half of a module such as `operator` is called `_operator`.
            own = (module.__name__, f"_{module.__name__}")
            if listed is not None or getattr(value, "__module__", None) in own:
                yield name, value
        elif type(value).__module__ == module.__name__:
            yield from _methods(value)


def _methods(instance: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(type(instance)):
        plain = inspect.getattr_static(type(instance), name)
        if not name.startswith("_") and isinstance(plain, (types.FunctionType, classmethod, staticmethod)):
            yield name, getattr(instance, name)


def load(path: str) -> types.ModuleType:
    """Imports a file, or a module by its name."""
    if not (path.endswith(".py") or os.sep in path):
        return importlib.import_module(path)
    file = Path(path).resolve()
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    # The standard library's module of that name stays what it is.
    name = f"muster_{file.stem}" if file.stem in sys.modules else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def describe(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "doc": (inspect.getdoc(function) or "")[:DOC_CHARS_MAX]}
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        pass
    else:
        described["params"] = [
            {"name": stars + p.name, "optional": bool(stars) or p.default is not p.empty}
            for p in parameters
            for stars in [{p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")]  # type: ignore[call-overload]
        ]
    described["chunks"] = name != shipped.METHOD
    if getattr(function, "__muster_once__", False):
        described["once"] = True
    return described
