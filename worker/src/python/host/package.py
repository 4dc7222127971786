"""The module `muster` inside hosted functions: `once`, `progress`, `cancelled`, `call_id`.

Where the Python package is installed, `import muster` finds it, and it finds this process's `inside`.
Where it is not, this module stands in for it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

from muster_host import inside

OFFERED = ("once", "progress", "cancelled", "call_id")


class _StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last, when nothing on the path is called `muster`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return importlib.machinery.ModuleSpec(name, self) if name == "muster" else None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType("muster", __doc__)
        module.inside = inside  # type: ignore[attr-defined]
        for name in OFFERED:
            setattr(module, name, getattr(inside, name))
        module.__getattr__ = _missing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """It is complete."""


def _missing(name: str) -> Any:
    hint = f"pip install muster-pool into {sys.executable}, which runs this function"
    raise AttributeError(f"muster.{name} is part of the Python package, which is not installed: {hint}")


def provide() -> None:
    """Makes `import muster` work in this process."""
    sys.modules["muster.inside"] = inside
    sys.meta_path.append(_StandIn())
