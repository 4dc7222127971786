"""Functions as they are shipped: pickled, and named by the hash of their pickle."""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import NotPicklable

#: Functions that a pool remembers having shipped.
FUNCTIONS_MAX = 1000


@dataclass
class Packed:
    """A pickled function. `setup` runs once in each process before it."""

    hash: str
    content: bytes
    setup: Packed | None = None
    #: How many more calls carry the pickle.
    sendings: int = field(default=0, compare=False)
    #: What an item of its last map took, in seconds.
    item_seconds: float | None = field(default=None, compare=False)

    def definitions(self) -> dict[str, bytes]:
        found = {self.hash: self.content}
        return {**self.setup.definitions(), **found} if self.setup else found


class Library:
    """The functions that a pool has shipped."""

    def __init__(self) -> None:
        self.setup: Packed | None = None
        self._by_hash: OrderedDict[str, Packed] = OrderedDict()
        self._by_name: dict[tuple[str, str], Packed] = {}
        self._by_code: dict[int, tuple[types.CodeType, tuple[str, ...], Packed]] = {}
        self._lock = threading.Lock()

    def pack(self, function: Callable[..., Any]) -> Packed:
        """Pickles a function. Raises `NotPicklable`.

        It is pickled at every call, for what it refers to may have changed; an equal pickle has an
        equal hash, and is sent no second time. A function that is only named by its pickle is always
        the same, and so is one that refers to nothing.
        """
        reference = _reference(function)
        if reference is not None:
            known = self._by_name.get(reference)
            if known is not None:
                return known
        code = _code_alone(function)
        if code is not None:
            known_code, names, packed = self._by_code.get(id(code), (None, (), None))
            if packed is not None and known_code is code and not _looks_up(names, function):
                return packed
        content = _dumps(function)
        hash = hashlib.blake2b(content, digest_size=16).hexdigest()
        with self._lock:
            packed = self._by_hash.get(hash)
            if packed is None:
                packed = self._by_hash[hash] = Packed(hash, content, self.setup, sendings=-1)
                if len(self._by_hash) > FUNCTIONS_MAX:
                    self._by_hash.popitem(last=False)
                    self._by_name.clear()
                    self._by_code.clear()
            if code is not None:
                names = _names(code)
                if not _looks_up(names, function):
                    if len(self._by_code) >= FUNCTIONS_MAX:
                        self._by_code.clear()
                    # The code is kept, so no other can be taken for it.
                    self._by_code[id(code)] = (code, names, packed)
            # What is pickled by reference holds its name.
            if reference is not None and reference[1].encode() in content and len(content) < 500:
                self._by_name[reference] = packed
            return packed


def _reference(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Module and name of a function that any process can import; None: it has to be sent itself."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__" or "." in name:
        return None
    home = sys.modules.get(module)
    return (module, name) if getattr(home, name, None) is function else None


def _code_alone(function: Callable[..., Any]) -> types.CodeType | None:
    """The code of a function that has nothing else: no closure, no defaults, no attributes."""
    if type(function) is not types.FunctionType or function.__closure__ or function.__dict__:
        return None
    return None if function.__defaults__ or function.__kwdefaults__ else function.__code__


def _looks_up(names: tuple[str, ...], function: Callable[..., Any]) -> bool:
    """Whether the function may refer to something of its module."""
    scope = function.__globals__
    for name in names:
        if name in scope:
            return True
    return False


def _names(code: types.CodeType) -> tuple[str, ...]:
    """Names that the code looks up outside itself, and those of attributes."""
    inner = [part for part in code.co_consts if type(part) is types.CodeType]
    return sum(map(_names, inner), code.co_names) if inner else code.co_names


def _dumps(function: Callable[..., Any]) -> bytes:
    try:
        import cloudpickle
    except ImportError:
        try:
            return pickle.dumps(function, protocol=5)
        except Exception as error:
            raise NotPicklable(
                f"{function!r} cannot be sent: {error}. Functions of `__main__`, lambdas and closures need "
                "cloudpickle: pip install cloudpickle"
            ) from error
    try:
        return cloudpickle.dumps(function, protocol=5)  # type: ignore[no-any-return]
    except Exception as error:
        raise NotPicklable(f"{function!r} cannot be sent: {error}") from error


def initializer(function: Callable[..., Any], args: tuple[Any, ...]) -> Packed:
    """A set-up function, as `Library.setup` takes it."""
    content = _dumps(functools.partial(function, *args))
    return Packed(hashlib.blake2b(content, digest_size=16).hexdigest(), content)
