"""The modes of --chmod, with chmod(1) as the judge."""

from __future__ import annotations

import random
import stat
import subprocess

import pytest

from pylxc.build.modes import Mode


def symbolic(chance):
    actions = ["".join(chance.sample("rwxXst", chance.randint(0, 3))), chance.choice("ugo")]
    clauses = []
    for _ in range(chance.randint(1, 3)):
        who = "".join(chance.sample("ugoa", chance.randint(0, 2)))
        clauses.append(
            who + "".join(chance.choice("-+=") + chance.choice(actions) for _ in range(chance.randint(1, 2)))
        )
    return ",".join(clauses)


def test_chmod_says_the_same(tmp_path):
    chance = random.Random(1)
    for name in ("file", "directory"):
        path = tmp_path / name
        path.mkdir() if name == "directory" else path.touch()
        for _ in range(150):
            # Of a directory chmod(1) keeps bits that nobody named: those are left out.
            before = chance.randrange(0o1000) if name == "directory" else chance.randrange(0o10000)
            text = symbolic(chance)
            if name == "directory" and "s" in text:
                continue
            path.chmod(before)
            subprocess.run(["sh", "-c", 'umask 0; exec chmod -- "$1" "$2"', "sh", text, path], check=True, timeout=60)
            after = stat.S_IMODE(path.stat().st_mode)
            assert f"{Mode.of(text).apply(before, is_directory=name == 'directory'):o}" == f"{after:o}", (before, text)


@pytest.mark.parametrize(("text", "mode"), [("0", 0), ("755", 0o755), ("00644", 0o644), ("7777", 0o7777)])
def test_octal(text, mode):
    assert Mode.of(text).apply(0o123, is_directory=False) == mode
    assert Mode.of(text) == Mode.of(f"{mode:o}")


@pytest.mark.parametrize("text", ["", "8", "10000", "rw", "u", "u+q", "u+x,", "u=gr", "x+r", "u+x g+x"])
def test_bad_modes(text):
    with pytest.raises(ValueError, match=r"^") as caught:
        Mode.of(text)
    assert caught.value.args == (text,)
