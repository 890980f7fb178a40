"""COPY --parents: which directories come with a file, where the pivot point is, what wildcards reach."""

from __future__ import annotations

import pytest
from building import Files, contents, members

from pylxc.build.confined import ContextError
from pylxc.build.context import Context
from pylxc.errors import BuildError

FILES = {
    "Dockerfile": "FROM scratch\n",
    "top.txt": "",
    "x/a.txt": "a",
    "x/y/b.txt": "b",
    "x/y/c.md": "c",
    "x/y/z/d.txt": "d",
    "w/y/e.txt": "e",
    "link": "-> x",
    "x/link.txt": "-> ../top.txt",
}


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "context").write(FILES)


def selected(files, *sources, **options):
    made = Context.open(files.path).select(sources, "/d/", parents=True, **options)
    assert made.directory == ("/d" if made.entries else "")  # what is nothing makes no directory
    return [f"{entry.name}/" if entry.kind == "directory" else entry.name for entry in made.entries]


X = ["x/", "x/a.txt", "x/link.txt", "x/y/", "x/y/b.txt", "x/y/c.md", "x/y/z/", "x/y/z/d.txt"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x/a.txt", ["x/", "x/a.txt"]),
        ("./x/a.txt", ["x/", "x/a.txt"]),
        ("/x/a.txt", ["x/", "x/a.txt"]),
        ("../../x/a.txt", ["x/", "x/a.txt"]),
        ("top.txt", ["top.txt"]),
        ("x", X),
        ("x/", X),
        ("x/y/z", ["x/", "x/y/", "x/y/z/", "x/y/z/d.txt"]),
        ("x/./y/b.txt", ["y/", "y/b.txt"]),
        ("./x/./y/b.txt", ["x/", "x/y/", "x/y/b.txt"]),  # the first one counts
        ("x/./y/./b.txt", ["y/", "y/b.txt"]),
        ("x/y/./z", ["z/", "z/d.txt"]),
        ("x/./../../w/y/e.txt", None),
        ("x/y/.", ["x/", "x/y/", "x/y/b.txt", "x/y/c.md", "x/y/z/", "x/y/z/d.txt"]),
        ("x/y/./", ["b.txt", "c.md", "z/", "z/d.txt"]),
        ("x/*.txt", ["x/", "x/a.txt", "x/link.txt"]),
        ("*/y", ["w/", "w/y/", "w/y/e.txt", *(one for one in X if "y" in one or one == "x/")]),
        ("*/./y/*.txt", ["y/", "y/b.txt", "y/e.txt"]),
        ("x/./y/*.txt", ["y/", "y/b.txt"]),
        ("**/d.txt", ["x/", "x/y/", "x/y/z/", "x/y/z/d.txt"]),
        ("x/**/*.md", ["x/", "x/y/", "x/y/c.md"]),
        ("x/./**/*.txt", ["a.txt", "link.txt", "y/", "y/b.txt", "y/z/", "y/z/d.txt"]),
        ("**/*.txt", ["top.txt", "w/", "w/y/", "w/y/e.txt", *(one for one in X if not one.endswith(".md"))]),
        ("link/./a.txt", ["a.txt"]),  # links are followed up to the pivot point
        ("x/link.txt", ["x/", "x/link.txt"]),
    ],
)
def test_names(files, source, expected):
    if expected is None:  # ".." stops at the pivot point
        with pytest.raises(ContextError, match="is or matches this"):
            selected(files, source)
        return
    assert selected(files, source) == expected


@pytest.mark.parametrize("source", ["none", "x/none", "x/a.txt/b", "link/a.txt", "none/./x"])
def test_nothing_there(files, source):
    with pytest.raises(ContextError, match="is or matches this") as caught:
        selected(files, source)
    assert caught.value.path == source


@pytest.mark.parametrize("source", ["*.none", "**/none", "link/*.txt", "none*/./x"])
def test_a_wildcard_may_match_nothing(files, source):
    assert selected(files, source) == []


def test_a_bad_pattern(files):
    with pytest.raises(ContextError, match="bad pattern"):
        selected(files, "x/[")


def test_excluded_and_ignored(files):
    files.write({".dockerignore": "x/y/z\n"})
    assert selected(files, "x/y") == ["x/", "x/y/", "x/y/b.txt", "x/y/c.md"]
    assert selected(files, "**/*.txt", excludes=["x/*.txt"]) == [
        "top.txt", "w/", "w/y/", "w/y/e.txt", "x/", "x/y/", "x/y/b.txt",
    ]  # fmt: skip
    with pytest.raises(ContextError):
        selected(files, "x/y/z/d.txt")


def test_no_link_leads_out(files):
    (files.path.parent / "secret").write_text("canary")
    files.write({"out": "-> ..", "x/out": "-> ../..", "x/abs": f"-> {files.path.parent}"})
    for source in ("out/secret", "out/./secret", "x/out/secret", "x/out/./secret", "x/abs/./secret"):
        with pytest.raises(ContextError):
            selected(files, source)
    assert selected(files, "**/secret") == []


def test_in_an_image(build):
    build.write(FILES)
    (build.files.path / "x").chmod(0o750)
    image = build("FROM scratch\nCOPY --parents --chown=5:6 ./x/a.txt ./w/y/*.txt /parents/\n")
    assert contents(image.layers[0]) == {"parents/x/a.txt": b"a", "parents/w/y/e.txt": b"e"}
    found = members(image.layers[0])["parents/x"]
    assert (found.mode, found.uid, found.gid) == (0o750, 5, 6)
    plain = build("FROM scratch\nCOPY x/a.txt /parents/\n")
    assert build.made() != []  # the flag is in the key
    assert contents(plain.layers[0]) == {"parents/a.txt": b"a"}
    with pytest.raises(BuildError, match="none: nothing in the context"):
        build("FROM scratch\nCOPY --parents none /d/\n")
