#!/usr/bin/env python3
"""Every crate that is built has a licence that this project may be shipped with, and none has been
withdrawn.

Cargo reads the licences from what the registry serves, and looks up there whether a release was
yanked. Known flaws are listed in a database that the registry does not serve; with `cargo-audit`
installed and the database at hand (`CARGO_AUDIT_DB`, or the place where cargo-audit keeps it) it is
asked too. What can't be reached is skipped, by name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Each lets MIT OR Apache-2.0 binaries be given away without more than a notice.
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
}

# What is compiled in and is no crate: libzmq is MPL-2.0, libsodium ISC; their texts are in the
# crates that carry their sources.
SOURCES = {"zeromq-src": "MPL-2.0 (libzmq)", "libsodium-sys-stable": "ISC (libsodium)"}


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met with allowed licences alone."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def any_of(at: int) -> tuple[bool, int]:
        found, at = all_of(at)
        while at < len(words) and words[at] == "OR":
            more, at = all_of(at + 1)
            found = found or more
        return found, at

    def all_of(at: int) -> tuple[bool, int]:
        found, at = one(at)
        while at < len(words) and words[at] == "AND":
            more, at = one(at + 1)
            found = found and more
        return found, at

    def one(at: int) -> tuple[bool, int]:
        if words[at] == "(":
            found, at = any_of(at + 1)
            return found, at + 1
        name, at = words[at], at + 1
        if at < len(words) and words[at] == "WITH":
            name, at = f"{name} WITH {words[at + 1]}", at + 2
        return name in ALLOWED, at

    return any_of(0)[0]


def licences() -> list[str]:
    """What is wrong with the licences."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    wrong = []
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence:
            wrong.append(f"{name} names no licence")
        elif not is_allowed(licence):
            wrong.append(f"{name}: {licence} is not on the list")
        if package["source"] and not package["source"].startswith("registry+"):
            wrong.append(f"{name} comes from {package['source']}, not from a registry")
    print(f"{len(metadata['packages'])} crates, and in them {', '.join(SOURCES.values())}")
    return wrong


#: A release that its authors have withdrawn: a look-up that does not find it finds nothing.
WITHDRAWN = ("url", "2.5.3")


def withdrawn() -> list[str]:
    """Releases in Cargo.lock that the registry's index has marked as yanked.

    Cargo never chooses such a release anew. So it is asked to, for a package that wants exactly
    these, until it has named every one that it does not choose.
    """
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())
    wanted = {(crate["name"], crate["version"]) for crate in lock["package"] if "source" in crate}
    wanted.add(WITHDRAWN)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "src").mkdir()
        Path(folder, "src/lib.rs").touch()
        while True:
            lines = ["[package]", 'name = "look-up"', 'version = "0.0.0"', "[workspace]", "[dependencies]"]
            for number, (name, version) in enumerate(sorted(wanted)):
                lines.append(
                    f'c{number} = {{ package = "{name}", version = "={version}", default-features = false }}'
                )
            Path(folder, "Cargo.toml").write_text("\n".join(lines))
            environment = dict(os.environ, CARGO_NET_RETRY="1", CARGO_HTTP_TIMEOUT="20")
            command = ["cargo", "generate-lockfile", "--color=never"]
            asked = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
            if asked.returncode == 0:
                break
            said = asked.stderr
            yanked = re.search(r'requirement `([^ ]+) = "=([^"]+)"`.*is yanked', said, re.DOTALL)
            if not yanked or (yanked[1], yanked[2]) not in wanted:
                print(f"SKIPPED withdrawn releases: the index can't be asked: {said.strip().splitlines()[-1]}")
                return []
            found.append((yanked[1], yanked[2]))
            wanted.remove((yanked[1], yanked[2]))
    assert WITHDRAWN in found, f"{WITHDRAWN} was withdrawn, and the look-up does not see it"
    found.remove(WITHDRAWN)
    print(f"{len(wanted)} releases looked up in the registry's index, {len(found)} withdrawn")
    return [f"{name} {version} was withdrawn by its authors" for name, version in found]


def advisories() -> list[str]:
    """What is known to be wrong with the crates themselves."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    database = Path(os.environ.get("CARGO_AUDIT_DB", home / "advisory-db"))
    if not shutil.which("cargo-audit"):
        print("SKIPPED advisories: cargo-audit is not installed")
        return []
    if not (database / "crates").is_dir():
        print(f"SKIPPED advisories: no advisory database at {database}")
        return []
    command = ["cargo", "audit", "--no-fetch", "--db", str(database)]
    found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(found.stdout)
    return [] if found.returncode == 0 else ["cargo audit found something"]


def main() -> int:
    assert is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0")
    assert is_allowed("MIT/Apache-2.0")
    assert is_allowed("GPL-2.0 OR Apache-2.0 WITH LLVM-exception")
    assert not is_allowed("MIT AND GPL-3.0")
    wrong = licences() + withdrawn() + advisories()
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
