"""A private cluster: a broker and a worker of its own, for one program and as long as it lives.

A small process (`muster.keeper`) holds both. It ends them and removes their files when this program
closes the cluster, exits, or dies in any other way.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

from .connection import Target, is_live
from .errors import MusterError

#: The cluster's name in its own runtime directory.
NAME = "private"
#: How long the broker may take to start, in seconds.
START_SECONDS = 20.0


class StartError(MusterError, RuntimeError):
    """The private cluster did not come up."""


def find_program(name: str) -> str:
    """The path of `muster-broker` or its like: from `MUSTER_BIN` (a folder), else from PATH."""
    folder = os.environ.get("MUSTER_BIN")
    found = (shutil.which(name, path=folder) if folder else None) or shutil.which(name)
    if found is None:
        where = f"neither in MUSTER_BIN ({folder}) nor" if folder else "not"
        raise StartError(f"{name} is {where} on PATH; set MUSTER_BIN to the folder that has it")
    return os.path.abspath(found)


@functools.cache
def _rust_worker(*needed: str) -> str | None:
    """A `muster-worker` that has these flags, if there is one."""
    try:
        program = find_program("muster-worker")
        usage = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=10).stdout
    except (StartError, OSError, subprocess.SubprocessError):
        return None
    return program if all(flag in usage for flag in needed) else None


class PrivateCluster:
    """A broker and `slots` processes of this interpreter that run shipped functions."""

    def __init__(self, slots: int | None = None, *, recycle: int | None = None) -> None:
        # A forked child leaves it alone.
        self._owner = os.getpid()
        self.slots = slots if slots is not None else os.cpu_count() or 1
        if self.slots < 1:
            raise ValueError("a pool has at least one process")
        broker = find_program("muster-broker")
        self.path = Path(tempfile.mkdtemp(prefix="muster-"))
        self.target = Target(cluster=NAME, runtime_dir=str(self.path))
        plan = {
            "folder": str(self.path),
            "parent": os.getpid(),
            "broker": [broker, "--cluster", NAME, "--runtime-dir", str(self.path)],
            "worker": self._worker_command(recycle),
        }
        environ = {
            **os.environ,
            "MUSTER_CLUSTER": NAME,
            "MUSTER_RUNTIME_DIR": str(self.path),
            "MUSTER_LOG": os.environ.get("MUSTER_LOG", "warn"),
            # What can be imported here can be imported there.
            "PYTHONPATH": os.pathsep.join(os.path.abspath(folder) for folder in sys.path),
        }
        for name in ("MUSTER_CONNECTION", "MUSTER_ENDPOINT", "MUSTER_CONNECT", "MUSTER_LISTEN"):
            environ.pop(name, None)
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "muster.keeper", json.dumps(plan)],
            stdin=subprocess.PIPE,
            env=environ,
            # Ctrl-C is this program's to handle.
            start_new_session=True,
        )
        _clusters.add(self)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _worker_command(self, recycle: int | None) -> list[str]:
        # `-c` and `-` are no names.
        program = Path(sys.argv[0]).stem.lstrip("-") or "python"
        options = [f"--name={program}-{os.getpid()}", "-n", str(self.slots)]
        if recycle is not None:
            options += ["--recycle", str(recycle)]
        worker = _rust_worker("--allow-apply", *(option for option in options if option == "--recycle"))
        if worker is None:
            return [sys.executable, "-m", "muster.serve", "--allow-apply", *options]
        return [worker, "--allow-apply", "--interpreter", sys.executable, *options]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        folder = self.target.runtime_path()
        while not is_live(folder) or not (folder / "cluster.json").exists():
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"the private cluster did not start: {self._log_tail()}")
            time.sleep(0.005)

    def check(self) -> None:
        """Raises `StartError` when the cluster has ended by itself."""
        if self._keeper.poll() is not None:
            raise StartError(f"the private cluster has ended: {self._log_tail()}")

    def _log_tail(self) -> str:
        try:
            return (self.path / "log").read_text(errors="replace")[-2000:].strip()
        except OSError:
            return "no log"

    def close(self) -> None:
        """Ends the processes and removes their files. May be called twice."""
        keeper = self._keeper
        if keeper.stdin is None or keeper.stdin.closed or os.getpid() != self._owner:
            return
        keeper.stdin.close()
        try:
            keeper.wait(10)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        shutil.rmtree(self.path, ignore_errors=True)


_clusters: weakref.WeakSet[PrivateCluster] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for cluster in list(_clusters):
        cluster.close()
