"""Holds the broker and the worker of a private cluster: `python -m muster.keeper PLAN`.

PLAN is JSON: the commands, the folder to remove at the end, the parent's process id. Standard input is
the lifeline: when it ends, or the parent is gone, everything here ends. A child that dies is started
again; the kernel ends the children should this process be killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
#: A child that died this often within so many seconds is given up, and the cluster with it.
DEATHS_MAX, DEATHS_SECONDS = 5, 10.0
#: How long children may take to end before they are killed, in seconds.
GRACE = 2.0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A process that is started again when it dies."""

    def __init__(self, command: list[str], log: Any, is_quiet: bool) -> None:
        self._command = command
        self._log = log
        self._is_quiet = is_quiet
        self._deaths: list[float] = []
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        out = self._log if self._is_quiet else None
        return subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=_die_with_parent
        )

    def watch(self) -> bool:
        """Starts a dead child again; False when it dies too often."""
        if self.process.poll() is None:
            return True
        now = time.monotonic()
        self._deaths = [death for death in self._deaths if now - death < DEATHS_SECONDS] + [now]
        if len(self._deaths) > DEATHS_MAX:
            return False
        self.process = self._start()
        return True


def main() -> None:
    plan = json.loads(sys.argv[1])
    # The parent ends us by the lifeline, whatever the terminal sends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stops.append(number))
    children: list[Child] = []
    with open(os.path.join(plan["folder"], "log"), "ab") as log:
        try:
            for name in ("broker", "worker"):
                children.append(Child(plan[name], log, is_quiet=name == "broker"))
            while not stops:
                readable, _, _ = select.select([sys.stdin], [], [], 0.1)
                # A fork of the parent may hold the other end of the lifeline open.
                if (readable and not os.read(0, 64)) or os.getppid() != plan["parent"]:
                    break
                # All of them, also when the first is given up.
                if False in [child.watch() for child in children]:
                    break
        finally:
            _end(children)
            shutil.rmtree(plan["folder"], ignore_errors=True)


def _end(children: list[Child]) -> None:
    # The worker before its broker, which it would miss.
    for child in reversed(children):
        # The first signal drains, the second means "now": nobody waits for the calls that run.
        for seconds in (0.05, GRACE):
            if child.process.poll() is None:
                child.process.terminate()
            try:
                child.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
        if child.process.poll() is None:
            child.process.kill()
        child.process.wait()


if __name__ == "__main__":
    main()
