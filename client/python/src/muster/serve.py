"""The command line of the Python worker: `python -m muster.serve FILE -n 4`."""

from __future__ import annotations

import argparse
import os
import sys

from .connection import Target
from .errors import MusterError
from .serving import serve


def main(argv: list[str] | None = None) -> int:
    """The command line; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m muster.serve", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", metavar="FILE|MODULE", help="what to offer")
    parser.add_argument(
        "-n", "--slots", type=int, default=os.cpu_count() or 1, help="processes (default: cores)"
    )
    parser.add_argument("--name", help="the worker's name (default: HOST-PID)")
    parser.add_argument("--prefix", default="", help="put this before the functions' names")
    parser.add_argument("--cluster", help="the cluster's name")
    parser.add_argument("--runtime-dir", metavar="DIR", help="where the runtime directories are")
    parser.add_argument("--connection", metavar="FILE", help="a connection file to use")
    parser.add_argument("--connect", metavar="tcp://HOST:PORT", help="the frontend's address")
    parser.add_argument("--allow-apply", action="store_true", help="run functions that clients send")
    parser.add_argument("--recycle", type=int, metavar="CALLS", help="replace a process after so many calls")
    options = parser.parse_args(argv)
    target = Target.of(
        options.cluster,
        runtime_dir=options.runtime_dir,
        connection=options.connection,
        endpoint=options.connect,
    )
    try:
        serve(
            *options.sources,
            slots=options.slots,
            name=options.name,
            target=target,
            prefix=options.prefix,
            allow_apply=options.allow_apply,
            recycle=options.recycle,
        )
    except (MusterError, ValueError, ImportError) as error:
        print(f"muster.serve: {error}", file=sys.stderr)
        return 69 if isinstance(error, ConnectionError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
