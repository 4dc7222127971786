"""The cluster's methods as Python functions: `pool.rpc.is_even(4)`.

They are made from what the workers tell of their functions, so `dir(pool.rpc)` and
`help(pool.rpc.is_even)` work.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .options import Method
    from .pool import ClusterPool

_STARS = {"*": inspect.Parameter.VAR_POSITIONAL, "**": inspect.Parameter.VAR_KEYWORD}


class Proxy:
    """Methods as attributes. Names with a dot are attributes of attributes, or `proxy["a.b"]`."""

    def __init__(self, pool: ClusterPool, prefix: str = "") -> None:
        self._pool = pool
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Any:
        full = self._prefix + name
        method = self._pool.method(full)
        if method is None and full in ("system", "broker", "rpc"):
            return Proxy(self._pool, f"{full}.")
        if method is None and any(other.startswith(f"{full}.") for other in self._names()):
            return Proxy(self._pool, f"{full}.")
        return make_function(self._pool, full, method)

    def __dir__(self) -> list[str]:
        start = len(self._prefix)
        return sorted({name[start:].split(".")[0] for name in self._names()})

    def _names(self) -> Iterator[str]:
        return (method.name for method in self._pool.methods() if method.name.startswith(self._prefix))

    def __repr__(self) -> str:
        return f"<methods of {self._pool!r}>"


def make_function(pool: ClusterPool, name: str, method: Method | None) -> Callable[..., Any]:
    """A function that calls the method, with its signature and documentation."""

    def function(*args: Any, **kwargs: Any) -> Any:
        return pool.call(name, *args, **kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "muster.rpc"
    function.__doc__ = method.doc if method is not None else None
    function.submit = lambda *args, **kwargs: pool.submit(name, *args, **kwargs)  # type: ignore[attr-defined]
    function.map = lambda items, **options: pool.map(name, items, **options)  # type: ignore[attr-defined]
    if method is not None and method.params is not None:
        try:
            signature = inspect.Signature([_parameter(*param) for param in method.params])
        except ValueError:
            return function  # Not expressible in Python; the call works all the same.
        function.__signature__ = signature  # type: ignore[attr-defined]
    return function


def _parameter(name: str, is_optional: bool) -> inspect.Parameter:
    stars = name[: len(name) - len(name.lstrip("*"))]
    kind = _STARS.get(stars, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    default = ... if is_optional and not stars else inspect.Parameter.empty
    return inspect.Parameter(name.lstrip("*"), kind, default=default)
