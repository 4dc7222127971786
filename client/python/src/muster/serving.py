"""A worker in Python alone: `muster.serve(functions)`.

It speaks the worker protocol itself and needs no Muster program on its machine. Each slot is a process
of its own: one that crashes, or that hangs past its deadline, is replaced, and its call runs elsewhere.
"""

from __future__ import annotations

from typing import Any

from . import settle, shipped
from .connection import Target
from .hosting import Functions


def serve(
    *sources: Any,
    slots: int = 1,
    name: str | None = None,
    target: Target | None = None,
    prefix: str = "",
    allow_apply: bool = False,
    recycle: int | None = None,
) -> None:
    """Offers functions until SIGTERM or SIGINT (the first drains, the second stops).

    A source is a function, a module, a file or module name, an object with methods, a mapping of names
    to functions, or a list of these. `slots` processes run them, each replaced after `recycle` calls.
    `allow_apply` lets clients send functions of their own. To be called in a program's main thread.

    Raises `NoBroker`, `ValueError` when two functions claim a name, `Refused`.
    """
    from .supervisor import Supervisor

    functions = Functions()
    for source in sources:
        functions.add_all(source, prefix)
    if allow_apply:
        shipped.settle = settle.collect
        functions.add(shipped.METHOD, shipped.apply)
    if not len(functions):
        raise ValueError("there is no function to offer")
    found = target or Target.of()
    Supervisor(functions, found, slots=slots, name=name, allow_apply=allow_apply, recycle=recycle).run()
