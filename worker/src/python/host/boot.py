"""The first file of the program that a child of muster-worker runs.

The program comes over a pipe: this file, then the others of this folder, each with its name in the line
before. They become modules of a package `muster_host`; the last one serves. The bootstrap in
worker/src/python/mod.rs calls this one with `files`, the parts that follow it.

Only the standard library, Python 3.8 or newer.
"""

import sys
import types

# With `-c` the working directory comes first: a file there must not pass for a module of the
# standard library. It comes back before the first module of the user is loaded.
working_directory = [sys.path.pop(0)] if sys.path[:1] == [""] else []

package = types.ModuleType("muster_host")
package.__path__ = []
package.working_directory = working_directory
sys.modules["muster_host"] = package
for part in files:  # noqa: F821
    name, source = part.split("\n", 1)
    module = types.ModuleType(f"muster_host.{name}")
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, f"<muster host>/{name}.py", "exec"), module.__dict__)
