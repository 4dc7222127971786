"""Modules and what they offer."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import traceback
import types
from typing import Any, Callable, Iterator, NamedTuple

from muster_host.failure import OWN_FILES, describe_traceback, type_name

DOC_CHARS_MAX = 16 << 10


class LoadError(Exception):
    """The modules offer nothing that can be hosted."""


class Method(NamedTuple):
    """A function on offer."""

    name: str
    function: Callable[..., Any]
    # Where it was found, for the error when two claim a name.
    origin: str


_loaded: dict[str, types.ModuleType] = {}


def load(path: str) -> types.ModuleType:
    """Imports a file, or a module by its name, once."""
    module = _loaded.get(path)
    if module is None:
        module = _loaded[path] = _load(path)
    return module


def find(name: str) -> Callable[..., Any]:
    """The function that `FILE:NAME` or `MODULE:NAME` stands for."""
    path, _, dotted = name.rpartition(":")
    value: Any = load(path)
    for part in dotted.split("."):
        if not hasattr(value, part):
            raise LoadError(f"{name}: {path} has no {dotted}")
        value = getattr(value, part)
    if not callable(value):
        raise LoadError(f"{name} is no function")
    return value


def _load(path: str) -> types.ModuleType:
    if not (path.endswith(".py") or os.sep in path or os.path.isdir(path)):
        return importlib.import_module(path)
    path = os.path.abspath(path)
    folder, base = os.path.split(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if os.path.isdir(path):
        return importlib.import_module(base)
    if not os.path.exists(path):
        raise LoadError(f"{path}: no such file")
    name = base[:-3] if base.endswith(".py") else base
    if name in sys.modules:
        # The standard library's module of that name stays what it is.
        name = f"muster_{name}"
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None, "a loader was given"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def public_methods(module: types.ModuleType) -> Iterator[Method]:
    """What a module offers: what `__all__` lists; else its own public functions and the public
    methods of its instances of classes defined in it."""
    listed = getattr(module, "__all__", None)
    names = listed if listed is not None else [n for n in vars(module) if not n.startswith("_")]
    origin = getattr(module, "__file__", None) or module.__name__
    for name in names:
        if not hasattr(module, name):
            raise LoadError(f"{origin}: __all__ lists {name}, which is not there")
        value = getattr(module, name)
        if isinstance(value, (type, types.ModuleType)):
            continue
        if is_function(value):
            if listed is not None or is_own_function(value, module):
                yield Method(name, value, f"{origin}: {name}")
        elif type(value).__module__ == module.__name__:
            for method_name, method in instance_methods(value):
                yield Method(method_name, method, f"{origin}: {name}.{method_name}")
        elif listed is not None and callable(value):
            yield Method(name, value, f"{origin}: {name}")


def is_function(value: Any) -> bool:
    # `__wrapped__`: a function behind lru_cache or another decorator that makes an object of it.
    return inspect.isroutine(value) or (callable(value) and hasattr(value, "__wrapped__"))


def is_own_function(value: Any, module: types.ModuleType) -> bool:
    # The C half of a module such as `operator` is called `_operator`.
    return getattr(value, "__module__", None) in (module.__name__, "_" + module.__name__)


def instance_methods(instance: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(type(instance)):
        if name.startswith("_"):
            continue
        # Looked up on the classes, so that no property runs.
        home = next(kind for kind in type(instance).__mro__ if name in vars(kind))
        plain = vars(home)[name]
        is_method = isinstance(plain, (types.FunctionType, classmethod, staticmethod))
        if home.__module__ != "builtins" and (is_method or is_function(plain)):
            yield name, getattr(instance, name)


def describe_method(method: Method) -> dict[str, Any]:
    doc = inspect.getdoc(method.function) or ""
    described: dict[str, Any] = {
        "name": method.name,
        "params": describe_params(method.function),
        "doc": doc.encode("utf-8", "replace").decode("utf-8")[:DOC_CHARS_MAX],
        "chunks": True,
    }
    if getattr(method.function, "__muster_once__", False):
        described["once"] = True
    return described


def describe_params(function: Callable[..., Any]) -> list[dict[str, Any]] | None:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None
    params = []
    for param in signature.parameters.values():
        stars = "*" if param.kind is param.VAR_POSITIONAL else ""
        if param.kind is param.VAR_KEYWORD:
            stars = "**"
        optional = bool(stars) or param.default is not param.empty
        params.append({"name": stars + param.name, "optional": optional})
    return params


def load_all(paths: list[str], prefix: str) -> dict[str, Method]:
    """Everything that these files and modules offer."""
    methods: dict[str, Method] = {}
    for path in paths:
        found = 0
        for method in public_methods(load(path)):
            found += 1
            name = prefix + method.name
            claimed = methods.setdefault(name, method._replace(name=name))
            if claimed.function != method.function:
                both = f"{claimed.origin}, and {method.origin}"
                raise LoadError(f"method {name} is claimed by two functions: {both}")
        if not found:
            raise LoadError(f"{path} offers no public function")
    return methods


def describe_load_failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, LoadError):
        return {"message": str(error)}
    file: str | None = None
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename:
        file, line, text = error.filename, error.lineno, error.msg
    else:
        text = str(error)
        for frame in traceback.extract_tb(error.__traceback__):
            if not frame.filename.startswith(OWN_FILES) and not frame.filename.startswith("<frozen"):
                file, line = frame.filename, frame.lineno
    kind = type_name(type(error))
    return {
        "message": f"{kind}: {text}" if text else kind,
        "file": file,
        "line": line,
        "traceback": describe_traceback(error),
    }


