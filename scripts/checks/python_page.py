#!/usr/bin/env python3
"""Does what docs/python.md says, as somebody who has only just cloned the repository.

The console blocks run in one shell whose Python is a new virtual environment; each command must end with 0.
Then the first program of the page runs, with the name of the worker that is there, a private pool, and a worker in Python alone.
What the page's other programs do is tested by client/python/tests/test_docs.py.
"""

import contextlib
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/python.md").read_text()
SECONDS_MAX = 900

PRIVATE = """
import muster
if __name__ == "__main__":
    with muster.Pool(2) as pool:
        assert pool.map(lambda x: x * x, range(1000)) == [x * x for x in range(1000)]
"""

SERVED = """
import muster
pool = muster.connect()
pool.wait_for_slots(8)
names = [worker["name"] for worker in pool.workers()]
assert len(names) == 2, names
assert [pool.call_to(name, "multiply", 5, 3) for name in names] == [15, 15]
"""


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


def commands():
    return [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


def first_program():
    program = next(text for text in blocks("python") if "muster.connect()" in text)
    wait = "pool.wait_for_slots(4)\nname = pool.workers()[0]['name']\n"
    head, connect, rest = program.partition("pool = muster.connect()")
    rest = rest.replace('"atlas-4711"', "name")
    line, _, rest = rest.partition("\n")
    return f"{head}{connect}{line}\n{wait}{rest}assert future.cancelled()\nassert pool.call('multiply', 5, 3) == 15\n"


def main():
    with tempfile.TemporaryDirectory(prefix="muster-page-") as folder:
        folder = pathlib.Path(folder)
        for name, text in (("first", first_program()), ("private", PRIVATE), ("served", SERVED)):
            (folder / f"{name}.py").write_text(text)
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        environ.update(
            PATH=f"{folder / 'venv/bin'}:{os.environ['PATH']}",
            XDG_RUNTIME_DIR=str(folder),
            PIP_QUIET="1",
            PIP_DISABLE_PIP_VERSION_CHECK="1",
        )
        served = shlex.join(["python", "-m", "muster.serve", "client/python/examples/methods.py", "-n", "4"])
        script = [
            *commands(),
            f"python {folder}/first.py",
            f"python {folder}/private.py",
            f"{served} &",
            f"python {folder}/served.py",
        ]
        # What runs in the background ends with the shell's process group.
        shell = subprocess.Popen(
            ["bash", "-e"],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            env=environ,
            start_new_session=True,
            text=True,
        )
        try:
            shell.communicate("".join(f"echo {shlex.quote('$ ' + line)}\n{line}\n" for line in script), SECONDS_MAX)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait()
    if shell.returncode:
        sys.exit(f"docs/python.md: a command ended with {shell.returncode}")
    print(f"{len(script)} passed")


if __name__ == "__main__":
    main()
