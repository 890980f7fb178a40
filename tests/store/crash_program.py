"""What the crash tests kill: a program that changes a store step by step and writes down each step when it is through.

Usage: crash_program.py STORE DIRECTORY LOG. The log is appended to by one write(2) a step, outside the store.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pylxc
from pylxc.image import Image


def main(root: str, source: str, log: str) -> None:
    engine = pylxc.Engine(root)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(*words: str) -> None:
        os.write(fd, (" ".join(words) + "\n").encode())

    first = Image.from_directory(source, "app:1", engine=engine)
    say("tagged", "app:1", first.id)
    Path(source, "second").write_text("second")
    second = Image.from_directory(source, "app:1", engine=engine)
    say("tagged", "app:1", second.id)
    second.tag("app:2")
    say("tagged", "app:2", second.id)
    say("removing", first.id)
    first.remove()
    say("removed", first.id)
    second.untag("app:2")
    say("untagged", "app:2")


if __name__ == "__main__":
    main(*sys.argv[1:])
