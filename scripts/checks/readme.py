#!/usr/bin/env python3
"""Does what the pages say and compares what comes of it with what they show.

    scripts/checks/readme.py                   README.md and the pages of PAGES
    scripts/checks/readme.py docs/watching.md  this one

- A block of kind `console` is a terminal. Its lines after `$ ` are run in one bash; each must end
  with 0, and what it prints, errors included, must be what is shown. `...` stands for anything.
- A block of kind `python FILE` or `text FILE` is saved as that file where the terminal is.
- A block of kind `rust FILE` or `toml FILE` must be that file of the repository, word for word.
- In the table of patterns each command of the last column must end with 0, each in a new terminal.

All of a page runs in order, in the checkout, with a runtime directory of its own. What is saved there
is removed again, and must not have been there before.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "parts"))
from private_cluster import PROGRAMS, ROOT, build

MARK = "-- the command ended with"
PAGES = ["README.md", "docs/commands.md", "docs/watching.md", "docs/gateway.md"]
# One of the commands compiles.
COMMAND_SECONDS_MAX = 600


def blocks(text):
    """Fenced blocks as (line number, kind, name, text)."""
    found, open_block = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if open_block is None and line.startswith("```"):
            kind, _, name = line[3:].partition(" ")
            open_block = (number, kind, name, [])
        elif open_block is not None and line == "```":
            number, kind, name, lines = open_block
            found.append((number, kind, name, "".join(f"{line}\n" for line in lines)))
            open_block = None
        elif open_block is not None:
            open_block[3].append(line)
    return found


def commands(text):
    """A console block as (command, expected output); a command may go on after a backslash."""
    pairs, goes_on = [], False
    for line in text.splitlines():
        if goes_on:
            pairs[-1][0] += "\n" + line
        elif line.startswith("$ "):
            pairs.append([line[2:], []])
        else:
            pairs[-1][1].append(line)
        goes_on = line.endswith("\\") and (goes_on or line.startswith("$ "))
    return [(command, "\n".join(lines)) for command, lines in pairs]


def pattern_rows(text):
    """The last cells of the table of patterns, as commands."""
    _, mark, table = text.partition("<!-- patterns -->")
    rows = table.split("\n\n")[0].strip().splitlines()[2:] if mark else []
    return [re.search(r"`([^`]+)` \|$", row).group(1).replace("\\|", "|") for row in rows]


class Terminal:
    """One bash that lives through all blocks; what it started ends with it."""

    def __init__(self, folder):
        names = ("MUSTER_", "XDG_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(names)}
        env.update(
            HOME=str(folder / "home"),
            MUSTER_RUNTIME_DIR=str(folder / "run"),
            CARGO_HOME=os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo")),
            RUSTUP_HOME=os.environ.get("RUSTUP_HOME", os.path.expanduser("~/.rustup")),
            CARGO_TARGET_DIR=str(PROGRAMS.parent),
            # The Python that runs this has pyzmq.
            PATH=os.pathsep.join([str(PROGRAMS), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]]),
            # Built above: the scripts that the commands start need not look again.
            MUSTER_BUILT="1",
            NO_COLOR="1",
            LC_ALL="C.UTF-8",
        )
        self.bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command):
        """What a command prints and how it ends."""
        print(f"$ {command}", flush=True)
        signal.alarm(COMMAND_SECONDS_MAX)
        # The command's own input is empty, or it would read the commands that follow.
        self.bash.stdin.write(f"{{ {command}\n}} </dev/null\necho \"{MARK} $?\"\n")
        self.bash.stdin.flush()
        output = ""
        for line in self.bash.stdout:
            head, mark, status = line.partition(MARK)
            output += head
            if mark:
                signal.alarm(0)
                return output, int(status)
        raise RuntimeError(f"the shell ended during `{command}`:\n{output}")

    def close(self):
        """Ends the shell and whatever it started."""
        if self.bash.stdin.closed:
            return
        self.bash.stdin.close()
        try:
            self.bash.wait(timeout=10)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.bash.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        self.bash.wait()


def matches(expected, actual):
    """Whether the output is what is shown, `...` standing for anything."""
    clean = "\n".join(line.rstrip() for line in actual.strip("\n").splitlines())
    pattern = ".*".join(re.escape(part) for part in expected.strip("\n").split("..."))
    return re.fullmatch(pattern, clean, re.DOTALL) is not None


def too_slow(_number, _frame):
    raise TimeoutError(f"the last command took more than {COMMAND_SECONDS_MAX} s")


class Judge:
    """Counts what was as it should be, and says what was not."""

    def __init__(self):
        self.passed = self.failed = 0

    def __call__(self, ok, what):
        self.passed += ok
        self.failed += not ok
        if not ok:
            print(f"FAILED: {what}", flush=True)


def follow(page, judge):
    """Does what one page says."""
    text = (ROOT / page).read_text()
    # A short path: a Unix socket's address has room for 107 bytes.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="readme-"))
    (folder / "home").mkdir()
    saved = []
    terminal = Terminal(folder)
    terminals = [terminal]
    try:
        for number, kind, name, block in blocks(text):
            where = f"{page}, line {number}"
            if kind in ("rust", "toml") and name:
                judge((ROOT / name).read_text() == block, f"{where}: differs from {name}")
            elif kind in ("python", "text") and name:
                # `x`: never over a file that is there.
                with open(ROOT / name, "x") as file:
                    saved.append(ROOT / name)
                    file.write(block)
            elif kind == "console":
                for command, expected in commands(block):
                    output, status = terminal.run(command)
                    ok = status == 0 and matches(expected, output)
                    judge(ok, f"{where}: `{command}` ended with {status}\n-- shown:\n{expected}\n-- printed:\n{output}")
        for command in pattern_rows(text):
            terminals.append(Terminal(folder))
            output, status = terminals[-1].run(command)
            terminals[-1].close()
            judge(status == 0, f"{page}: `{command}` ended with {status}:\n{output}")
    finally:
        for terminal in terminals:
            terminal.close()
        for file in saved:
            file.unlink()
        shutil.rmtree(folder, ignore_errors=True)


def main():
    build()
    signal.signal(signal.SIGALRM, too_slow)
    # Whoever ends this ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    judge = Judge()
    for page in sys.argv[1:] or PAGES:
        follow(page, judge)
    print(f"{judge.passed} passed, {judge.failed} failed")
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
