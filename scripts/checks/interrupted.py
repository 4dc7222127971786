#!/usr/bin/env python3
"""Ends scripts/fanout in its midst, politely and not: nothing that it started may be left."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "parts"))
from private_cluster import build

DEADLINE_S = 60


def started_by(script):
    """Numbers of Muster's programs that `script` has started and that live."""
    mark = f"MUSTER_PARENT={script.pid}".encode()
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            pass  # It has ended, or is another user's.
    return found


def wait_until(what, is_true):
    deadline = time.monotonic() + DEADLINE_S
    while not is_true():
        if time.monotonic() > deadline:
            sys.exit(f"not within {DEADLINE_S} s: {what}")
        time.sleep(0.01)


def interrupt(numbers, pause_s):
    """Starts the script, sends it these signals, and sees what is left."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "TMPDIR": folder, "MUSTER_BUILT": "1"}
        script = subprocess.Popen([ROOT / "scripts" / "fanout", "-n", "400"], env=env, stdout=subprocess.DEVNULL)
        try:
            # The broker, the worker, its guard and a slot.
            wait_until("the cluster to run", lambda: len(started_by(script)) >= 4)
            for number in numbers:
                script.send_signal(number)
                time.sleep(pause_s)
            code = script.wait(DEADLINE_S)
            wait_until("every process to end", lambda: not started_by(script))
        finally:
            script.kill()
            for pid in started_by(script):
                os.kill(pid, signal.SIGKILL)
        if signal.SIGKILL in numbers:
            return
        if code != 130:
            sys.exit(f"{numbers}: exit code {code}")
        if left := os.listdir(folder):
            sys.exit(f"{numbers}: {left} is left")


def main():
    build()
    interrupt([signal.SIGINT], 0)
    for pause_s in (0.001, 0.01, 0.05):
        interrupt([signal.SIGINT, signal.SIGINT], pause_s)
    interrupt([signal.SIGINT, signal.SIGTERM, signal.SIGINT], 0.005)
    interrupt([signal.SIGKILL], 0)
    print("a script that is ended leaves nothing: 6 ways")


if __name__ == "__main__":
    main()
