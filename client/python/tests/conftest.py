"""Fixtures: private brokers and workers on random runtime directories, killed by their own pids."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
if importlib.util.find_spec("muster") is None:
    # Not installed: the checkout is tested, by the processes that tests start as well.
    SOURCE = str(ROOT / "client/python/src")
    sys.path.insert(0, SOURCE)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))

import muster  # noqa: E402

EXAMPLES = ROOT / "client/python/examples"
METHODS = Path(__file__).with_name("methods.py")

#: No wait in a test is longer, in seconds.
PATIENCE = 60.0

# Where `scripts/test` and developers have the programs.
if "MUSTER_BIN" not in os.environ:
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    if (built / "muster-broker").exists():
        os.environ["MUSTER_BIN"] = str(built)


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ.get("MUSTER_BIN")) or shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not built: cargo build --release, or set MUSTER_BIN")
    return found


def wait_for(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Waits until the condition holds and returns what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {timeout:g} s for {what}"
        time.sleep(0.01)


class Cluster:
    """A broker and workers of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.broker = self.start_broker()

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        environ = {
            **os.environ,
            "MUSTER_RUNTIME_DIR": str(self.folder),
            "MUSTER_CLUSTER": "t",
            "MUSTER_LOG": "warn",
        }
        process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def start_broker(self, *options: str) -> subprocess.Popen[bytes]:
        process = self.spawn(program("muster-broker"), *options)
        self.broker = process
        wait_for(self._is_up, "the broker")
        return process

    def _is_up(self) -> bool:
        try:
            muster.Target.of("t", runtime_dir=self.folder).resolve()
        except muster.NoBroker:
            return False
        return True

    def serve(self, *options: str, slots: int = 2) -> subprocess.Popen[bytes]:
        """A Python worker."""
        return self.spawn(sys.executable, "-m", "muster.serve", str(METHODS), "-n", str(slots), *options)

    def host(self, *options: str, slots: int = 2) -> subprocess.Popen[bytes]:
        """A `muster-worker` that hosts the same functions."""
        hosting = ("--python", str(METHODS), "--interpreter", sys.executable, "-n", str(slots))
        return self.spawn(program("muster-worker"), *hosting, *options)

    def connect(self, slots: int = 0) -> muster.Pool:
        pool = muster.connect("t", runtime_dir=str(self.folder), timeout=20)
        if slots:
            pool.wait_for_slots(slots, PATIENCE)
        return pool

    def end(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An empty cluster."""
    # A short path: socket addresses hold 107 bytes.
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("m", numbered=True)))
    cluster = Cluster(folder)
    yield cluster
    cluster.end()


@pytest.fixture(scope="module", params=["serve", "host"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[muster.Pool]:
    """A pool with two slots that offer tests/methods.py, once of a Python worker, once of `muster-worker`."""
    cluster = Cluster(Path(os.path.realpath(tmp_path_factory.mktemp("m", numbered=True))))
    try:
        cluster.serve() if request.param == "serve" else cluster.host()
        pool = cluster.connect(slots=2)
        yield pool
        pool.terminate()
    finally:
        cluster.end()


@pytest.fixture(scope="module")
def private() -> Iterator[muster.Pool]:
    """A private pool of two processes."""
    with muster.Pool(2) as pool:
        yield pool


def kill(pid: int) -> None:
    """kill -9 of a process that a test started."""
    os.kill(pid, signal.SIGKILL)
