"""A cluster of its own for a script: built, started in a temporary directory, and taken down with it.

Nothing here touches a cluster that is already running: the runtime directory, the state directory
and the configuration are all new.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
PROGRAMS = (TARGET if TARGET.is_absolute() else ROOT / TARGET) / "release"


def build():
    """Builds the programs; quick when there is nothing to do. MUSTER_BUILT=1: they are there."""
    if os.environ.get("MUSTER_BUILT"):
        return
    command = ["cargo", "build", "--release", "--workspace", "--bins", "--quiet"]
    if shutil.which("cargo") is None:
        sys.exit("cargo is not on PATH: install Rust from https://rustup.rs")
    print("building (the first time takes a few minutes) …", file=sys.stderr)
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("the build failed: " + " ".join(command))


class PrivateCluster:
    """A broker and its workers, gone at the end of the `with` block, whatever ends it."""

    def __init__(self, *broker_args, loud=False):
        self.broker_args = broker_args
        self.processes = []
        self.loud = loud

    def __enter__(self):
        # A short path: a Unix socket's address has room for 107 bytes.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="muster-"))
        self.log = open(self.directory / "log", "wb")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
        self.env.update(
            PATH=f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            MUSTER_RUNTIME_DIR=str(self.directory),
            MUSTER_CLUSTER="script",
            XDG_STATE_HOME=str(self.directory / "state"),
            XDG_CONFIG_HOME=str(self.directory / "config"),
        )
        ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self.handlers = {number: signal.signal(number, _interrupt) for number in ends}
        try:
            self.start("muster-broker", *self.broker_args)
            self.connection = self._await_connection()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, *_):
        # Whoever is impatient gets what is left killed; an exception here would leave it running.
        for number in self.handlers:
            signal.signal(number, self._end_at_once)
        # What came last is the first to go: workers finish before their broker does.
        for process in list(reversed(self.processes)):
            self.stop(process)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        self.log.close()
        if kind is not None and kind is not KeyboardInterrupt:
            tail = (self.directory / "log").read_text(errors="replace").splitlines()[-20:]
            print("\n".join(["the programs' log:", *tail]), file=sys.stderr)
        shutil.rmtree(self.directory, ignore_errors=True)
        return False

    def start(self, *command):
        """Starts a program in the background."""
        output = None if self.loud else self.log
        # A session of its own: Ctrl-C reaches this script alone, which then stops the rest in order.
        process = subprocess.Popen(
            command,
            # Muster's programs end with the process that is named here, even when it is killed.
            env={**self.env, "MUSTER_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def stop(self, process):
        """Lets a program finish; ends it when it does not."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def _end_at_once(self, _number, _frame):
        for process in self.processes:
            process.kill()

    def start_workers(self, slots, *args):
        """Starts one worker with this many slots and waits until they serve."""
        before = self.slots()
        process = self.start("muster-worker", "-n", str(slots), *args)
        self.run("muster", "wait", "--slots", str(before + slots), "--timeout", "60")
        return process

    def stop_workers(self, process):
        """Stops a worker and waits until the broker knows that it left."""
        self.stop(process)
        deadline = time.monotonic() + 10
        while self.slots() > 0 and time.monotonic() < deadline:
            time.sleep(0.02)

    def slots(self):
        """How many slots the broker knows."""
        return self.json("muster", "call", "broker.status")["slots"]["total"]

    def run(self, *command, stdin=None, check=True, timeout=120):
        """Runs a command to its end and gives what it printed."""
        process = subprocess.run(
            command, env=self.env, input=stdin, stdout=subprocess.PIPE, text=True, timeout=timeout
        )
        if check and process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        return process.stdout

    def json(self, *command):
        """The same for a command that prints one JSON value."""
        return json.loads(self.run(*command))

    def _await_connection(self):
        file = self.directory / "script" / "cluster.json"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.processes[0].poll() is not None:
                raise RuntimeError("the broker ended at once")
            try:
                return json.loads(file.read_text())
            except (FileNotFoundError, ValueError):
                time.sleep(0.01)
        raise RuntimeError("the broker did not start within 30 s")


def _interrupt(_number, _frame):
    raise KeyboardInterrupt
