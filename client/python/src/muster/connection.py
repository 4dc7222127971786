"""Finding the broker: runtime directory, connection file, keys.

Nothing here opens a ZeroMQ socket. The rules are those of every Muster program; see "Finding the
broker" in docs/protocol.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import NoBroker

#: The cluster meant when none is named.
CLUSTER_DEFAULT = "default"
#: The connection file's version that this library reads.
VERSION = 1
#: Larger connection files are refused unread; a real one has some hundred bytes.
FILE_BYTES_MAX = 64 << 10

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Curve:
    """CURVE keys as Z85 text of 40 characters each."""

    server_key: str
    public_key: str
    secret_key: str

    def __repr__(self) -> str:
        # The secret key never reaches a log or a traceback.
        return f"Curve(server_key={self.server_key!r}, public_key={self.public_key!r})"


@dataclass(frozen=True)
class Address:
    """Where a broker's doors are, and the keys they ask for."""

    frontend: str
    workers: str | None = None
    curve: Curve | None = None


@dataclass(frozen=True)
class Target:
    """Which broker is meant. The default is this user's cluster `default` on this machine."""

    cluster: str | None = None
    runtime_dir: str | None = None
    connection: str | None = None
    endpoint: str | None = None

    @classmethod
    def of(
        cls,
        cluster: str | None = None,
        *,
        runtime_dir: str | os.PathLike[str] | None = None,
        connection: str | os.PathLike[str] | None = None,
        endpoint: str | None = None,
    ) -> Target:
        """What the arguments name, completed from the environment.

        `MUSTER_CONNECTION` and `MUSTER_ENDPOINT` count only when no argument names a cluster.
        """
        environ = os.environ
        is_named = any((cluster, runtime_dir, connection, endpoint))
        runtime_dir = runtime_dir or environ.get("MUSTER_RUNTIME_DIR") or None
        return cls(
            cluster=cluster or environ.get("MUSTER_CLUSTER") or None,
            runtime_dir=os.fspath(runtime_dir) if runtime_dir else None,
            connection=_path(connection) or (None if is_named else environ.get("MUSTER_CONNECTION") or None),
            endpoint=endpoint or (None if is_named else environ.get("MUSTER_ENDPOINT") or None),
        )

    def lead(self) -> None:
        """Has this process and its children find the same broker when they name none."""
        names = {
            "MUSTER_CLUSTER": self.cluster,
            "MUSTER_RUNTIME_DIR": self.runtime_dir,
            "MUSTER_CONNECTION": self.connection,
            "MUSTER_ENDPOINT": self.endpoint,
        }
        for name, value in names.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def resolve(self) -> Address:
        """Finds the broker's address. Reads files, opens no socket.

        Raises `NoBroker` when there is no connection file, its broker has ended, or the file
        cannot be trusted or read.
        """
        if self.connection:
            found = read_connection(Path(self.connection))
        elif self.endpoint:
            found = None
        else:
            found = self._read_runtime()
        if not self.endpoint:
            assert found is not None, "without an endpoint a file was read"
            return found
        endpoint = self.endpoint if "://" in self.endpoint else f"tcp://{self.endpoint}"
        return Address(endpoint, None, found.curve if found else None)

    def runtime_path(self) -> Path:
        """The cluster's runtime directory. Raises `ValueError` when the name cannot be one."""
        cluster = self.cluster or CLUSTER_DEFAULT
        if not _NAME.fullmatch(cluster):
            raise ValueError(
                f"cluster name {cluster[:64]!r}: use 1 to 64 letters, digits, `-`, `_` or `.`, "
                "not starting with a dot"
            )
        return (Path(self.runtime_dir) if self.runtime_dir else _base_default()) / cluster

    def _read_runtime(self) -> Address:
        folder = self.runtime_path()
        found = read_connection(folder / "cluster.json")
        # Whoever can write there could send the calls to a broker of their own.
        _verify(folder)
        if not is_live(folder):
            raise NoBroker(f"no broker: the one of {folder / 'cluster.json'} has ended; start `muster up`")
        return found


def read_connection(path: Path) -> Address:
    """Reads a connection file. Raises `NoBroker` when it is missing or not one of this version."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise NoBroker(f"no broker: no connection file at {path}; start `muster up`") from None
    except OSError as error:
        raise NoBroker(f"connection file {path}: {error.strerror}") from error
    try:
        if len(text) > FILE_BYTES_MAX:
            raise ValueError(f"over {FILE_BYTES_MAX} bytes")
        members: dict[str, Any] = json.loads(text)
        if members["version"] != VERSION:
            raise ValueError(f"version {members['version']}, this library reads {VERSION}")
        curve = members.get("curve")
        keys = Curve(*(curve[name] for name in ("server_key", "public_key", "secret_key"))) if curve else None
        return Address(members["frontend"], members["workers"], keys)
    except (ValueError, KeyError, TypeError) as error:
        raise NoBroker(f"connection file {path}: {error!r}") from error


def is_live(folder: Path) -> bool:
    """Whether a living broker holds the lock of a runtime directory."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _verify(folder: Path) -> None:
    found = os.lstat(folder)
    own = os.geteuid()
    if not stat.S_ISDIR(found.st_mode):
        raise NoBroker(f"runtime directory {folder} is a symbolic link or no directory")
    if found.st_uid != own:
        raise NoBroker(f"runtime directory {folder} belongs to user {found.st_uid}, not to {own}")
    if found.st_mode & 0o077:
        raise NoBroker(f"runtime directory {folder} lets others in; chmod 700 it")


def _base_default() -> Path:
    base = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    # A relative one would be another folder for each program, so it counts as none.
    if base.is_absolute():
        return base / "muster"
    # Not `tempfile.gettempdir()`, which tries folders the other programs do not.
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir()) / f"muster-{os.geteuid()}"


def _path(path: str | os.PathLike[str] | None) -> str | None:
    return os.path.abspath(path) if path else None
