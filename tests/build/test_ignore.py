"""The patterns of .dockerignore."""

from __future__ import annotations

import pytest

from pylxc.build.ignore import Ignore
from pylxc.errors import DockerfileError

CASES = [
    # one pattern, a path, excluded?
    ("a", "a", True),
    ("a", "a/b/c", True),
    ("a", "b/a", False),
    ("a", "ab", False),
    ("/a", "a", True),
    ("//a", "a", True),
    ("a/", "a", True),
    ("./a", "a", True),
    ("a/../b", "b", True),
    ("../a", "a", False),
    ("  a\t", "a", True),
    ("# a", "# a", False),
    (" # a", "# a", True),  # only a '#' in the first column is a comment
    (".", "a", False),
    ("/", "a", False),
    ("*", "a", True),
    ("*", ".git", True),
    ("*", "a/b", True),
    ("*.go", "a.go", True),
    ("*.go", "d/a.go", False),
    ("*/temp*", "d/temporary.txt", True),
    ("*/temp*", "d/temp/x", True),
    ("*/temp*", "d/e/temp", False),
    ("*/*/temp*", "d/e/temp", True),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("temp?", "temp/", False),
    ("a?b", "a/b", False),
    ("**/*.go", "a.go", True),
    ("**/*.go", "x/y/a.go", True),
    ("**/*.go", "x/y/a.goo", False),
    ("**", "anything/at/all", True),
    ("a/**", "a/b", True),
    ("a/**", "a", False),
    ("a/**/b", "a/b", True),
    ("a/**/b", "a/x/y/b", True),
    ("a/**/b", "ab", False),
    ("**.log", "a.log", True),  # a "**" and plain text: the end of a path
    ("**.log", "x/y/a.log", True),
    ("**.log", "a.logs", False),
    ("**foo", "xfoo/y", True),
    ("**foo*", "xfoo", False),
    ("**foo/bar", "xfoo/bar", True),
    ("**foo/bar", "d/xfoo/bar", True),
    ("**/foo/bar", "xfoo/bar", False),
    ("**/foo/bar", "d/foo/bar", True),
    ("**a.b", "xa.b", True),
    ("**a.b", "xaxb", False),
    ("**foo*", "x/food", True),
    ("a/**.log", "a/x.log", False),
    ("a**", "abc/d", True),
    ("a/**/*.c", "a/x/y.c", True),
    ("a/***/b", "a/x/b", True),
    ("[!a]x", "!x", True),  # only "^" negates
    ("[!a]x", "bx", False),
    ("a\\ b", "a b", True),
    ("a b", "a b", True),
    ("dir/", "dir/x", True),
    ("./dir/./x//", "dir/x", True),
    ("\\!a", "!a", True),
    ("\\#a", "#a", True),
    ("**/node_modules", "x/node_modules/y/z", True),
    ("[a-c]x", "bx", True),
    ("[a-c]x", "dx", False),
    ("[^a-c]x", "dx", True),
    ("[^a-c]x", "ax", False),
    (r"[\]]", "]", True),
    (r"[a\-z]", "-", True),
    (r"[a\-z]", "m", False),
    (r"\*", "*", True),
    (r"\*", "a", False),
    ("a.b", "axb", False),
    ("a+(b)|{c}$^", "a+(b)|{c}$^", True),
    ("é*", "ete", False),
    ("é*", "étude", True),
    ("A", "a", False),
    # What patterns come to that have a "**" in the middle, at the end, or several.
    ("**/", "a/b", True),
    ("**/**", "a/b", True),
    ("a/**", "a/b/c", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/*", "dir2", False),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**/file*txt", "d/file.x.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("**/**/*.txt2", "d/file.txt", False),
    ("a**/*.txt", "a/d/d/file.txt", True),
    ("a**/*.txt", "ab/file.txt", True),
    ("a/*.txt", "a/d/file.txt", False),
    ("a/*.txt**", "a/file.txt", True),
    ("a/*.txt**", "a/file.txt.x/y", True),
    ("**/.foo", "bar.foo", False),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("a???b", "a\u263ab", False),
    ("a?b", "a\u263ab", True),
    ("[a-\u03b6]*", "\u03b1", True),
    (r"[x\-]", "-", True),
    (r"[\-x]", "a", False),
    (r"a\\", "a\\", True),
]


@pytest.mark.parametrize(("pattern", "path", "excluded"), CASES)
def test_one_pattern(pattern, path, excluded):
    assert Ignore.parse(pattern + "\n").excludes(path) is excluded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*.md\n!README.md", {"a.md": True, "README.md": False}),
        ("*.md\n!README*.md\nREADME-secret.md", {"README-secret.md": True, "README.md": False, "x.md": True}),
        ("*.md\nREADME-secret.md\n!README*.md", {"README-secret.md": False, "README.md": False}),
        ("*\n!src\n", {"src": False, "src/a": False, "a": True}),
        ("*\n!src/*.c\n", {"src": True, "src/a.c": False, "src/a.h": True}),
        ("d\n!d/keep\nd/keep/secret", {"d/keep/a": False, "d/keep/secret": True, "d/x": True}),
        ("!a\n", {"a": False}),
        ("**\n!**/*.md\nx/**\n", {"a.md": False, "d/a.md": False, "a.c": True, "x/a.md": True}),
        ("**/*.o\n!lib/**\nlib/**/secret*", {"a.o": True, "lib/x/a.o": False, "lib/x/secret.o": True}),
        ("d*\n!d/x\nd*\n", {"d/x": True}),
        ("d*\n!d\n", {"d/x": False, "dd/x": True}),
        ("a\n!a/b/c\n", {"a/b": True, "a/b/c": False, "a/b/c/d": False}),
        ("a\n! a\n", {"a": False}),
        ("a\n!/a/\n", {"a": False}),
        ("!a.go\n*.go\n", {"a.go": True}),
        ("docs/\n!docs/README.md\n", {"docs/README.md": False, "docs/x": True}),
        ("docs/*\n!docs/README.md\n", {"docs/README.md": False, "docs": False}),
        ("**\n!u/d/web\n", {"u/d/web/foo": False, "u/d": True}),
        ("**\n!u/d/web\nu/d/web/foo\n", {"u/d/web/foo": True, "u/d/web/bar": False}),
        ("a\n!a/b\na\n", {"a/b": True}),
        ("a/b\n!a\n", {"a/b": False}),
        ("\ufeffa\r\n\r\nb\r\n", {"a": True, "b": True, "c": False}),
        ("", {"a": False}),
    ],
)
def test_the_last_match_wins(text, expected):
    ignore = Ignore.parse(text.encode())
    assert {path: ignore.excludes(path) for path in expected} == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "[]",
        "[]a]",
        "[-]",
        "[x-]",
        "[a-b-c]",
        "[^bc",
        "a[",
        "\\",
        "[a",
        "[a-",
        "[^",
        "[-x]",
        "a\\",
        "[z-a]",
        "!",
        "!  ",
    ],
)
def test_bad_pattern_names_its_line(pattern):
    with pytest.raises(DockerfileError) as caught:
        Ignore.parse(f"fine\n\n{pattern}\n", "web.dockerignore")
    assert (caught.value.line, caught.value.path) == (3, "web.dockerignore")


def test_many_double_stars_cost_no_more_than_one():
    assert not Ignore.parse("**/" * 40 + "x").excludes("/".join("a" * 200))


def test_a_very_deep_path():
    ignore = Ignore.parse("**/x\n")
    assert ignore.excludes("d/" * 3000 + "x/y")
    assert not ignore.excludes("d/" * 3000 + "y")


def test_patterns_one_by_one():
    excluded = Ignore.of(["*.o", "!keep.o", "#x", ""])
    assert [path for path in ("a.o", "keep.o", "#x", "b") if excluded.excludes(path)] == ["a.o", "#x"]


def test_pruning_is_only_said_where_nothing_below_can_come_back():
    assert Ignore.parse("a\n").prunes("a")
    assert not Ignore.parse("a\n").prunes("b")
    assert not Ignore.parse("a\n!a/b\n").prunes("a")


def test_a_path_that_is_not_utf8():
    ignore = Ignore.parse(b"caf\xe9*\n")
    assert ignore.excludes(b"caf\xe9.txt".decode("utf-8", "surrogateescape"))
