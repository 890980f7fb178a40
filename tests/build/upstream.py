"""A git repository that the tests' web server has, made with the real git and none of the caller's configuration."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from webserver import Web

WHO = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_AUTHOR_DATE": "1000000000 +0000",
    "GIT_COMMITTER_DATE": "1000000000 +0000",
}


class Upstream:
    """A repository that the loopback server has, with a working tree to commit from."""

    def __init__(self, top: Path, web: Web, name: str = "r") -> None:
        self.path = top / f"{name}.git"
        self.url = f"{web.url}/{name}.git"
        self.path.mkdir(parents=True)
        web.repositories = top
        self.git("init", "-q", "-b", "main")

    def git(self, *words: str, **more: object) -> str:
        done = subprocess.run(
            ["git", "-c", "protocol.file.allow=always", *words], cwd=self.path, env=WHO, check=True, text=True,
            capture_output=True, timeout=60, **more,
        )  # fmt: skip
        return done.stdout.strip()

    def commit(self, files: dict[str, str]) -> str:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("-> "):
                path.symlink_to(content[3:])
            else:
                path.write_text(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")
        return self.git("rev-parse", "HEAD")

    def tree_with(self, entries: str) -> str:
        """Commit a tree that no git would make: lines of ls-tree(1)."""
        tree = self.git("mktree", input=entries)
        commit = self.git("commit-tree", tree, "-m", "made by hand")
        self.git("update-ref", "refs/heads/main", commit)
        return commit
