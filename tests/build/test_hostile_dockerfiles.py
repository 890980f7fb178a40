"""Dockerfiles that were made to hold a parser up. Each is done at once, or these tests do not end.

The sizes are such that work that grows with the square of the text takes hours.
"""

from __future__ import annotations

import pytest

from pylxc.build.dockerfile import parse
from pylxc.build.expand import DEEPEST, LONGEST, ExpansionError, expand, expand_words
from pylxc.build.lint import lint
from pylxc.build.plan import plan
from pylxc.errors import DockerfileError
from pylxc.imageconfig import ImageConfig

MANY = 50_000


def config(text):
    return list(plan(parse(f"FROM base\n{text}")).steps(ImageConfig()))[-1].state.config


@pytest.mark.parametrize("name", ["RUN", "CMD", "ENV a", "LABEL a", "USER", "HEALTHCHECK CMD", "ONBUILD RUN", "VOLUME"])
def test_a_line_of_a_megabyte(name):
    (one,) = parse(f"FROM base\n{name} {'x' * (1 << 20)}").stages[0].instructions
    assert len(one.source) > 1 << 20


def test_many_continuations():
    (one,) = parse("FROM base\nCOPY a \\\n" + "b \\\n" * MANY + "/c").stages[0].instructions
    assert len(one.sources) == MANY + 1
    assert one.logical.locate(one.destination.offset) == (MANY + 3, 1)
    assert one.logical.locate(one.sources[-1].offset) == (MANY + 2, 1)


def test_many_comments_and_blank_lines_in_a_continuation():
    made = parse("# x\n" * MANY + "FROM base AS b\nRUN a \\\n" + "\n # c\n" * MANY + "b")
    assert made.instructions[-1].command.argv == ("a b",)
    assert [one.rule for one in lint(made)] == ["NoEmptyContinuation"]


def test_many_here_documents():
    names = [f"A{number}" for number in range(10_000)]
    text = "RUN " + " ".join(f"<<{name}" for name in names) + "\n" + "".join(f"{name}\n" for name in names)
    (one,) = parse(f"FROM base\n{text}").stages[0].instructions
    assert len(one.command.heredocs) == len(names)
    with pytest.raises(DockerfileError, match="has no end"):
        parse("FROM base\nRUN " + "<<A " * 10_000 + "\n" + "A\n" * 9_999)


@pytest.mark.parametrize("char", ["'", '"', "\\", "$", "${", "{", "[", "<<", "=", ",", "/", " \\", "<<a"])
@pytest.mark.parametrize("start", ["RUN ", "ENV a", "EXPOSE ", "RUN --mount=", "COPY --chown=", "HEALTHCHECK CMD "])
def test_long_rows_of_what_means_something(start, char):
    text = f"FROM base\n{start}{char * (MANY // 4)}"
    try:
        made = parse(text)
        list(plan(made).steps(ImageConfig()))
    except DockerfileError as error:
        assert error.line == 2  # noqa: PT017  some are errors, some are not
    else:
        assert len(made.instructions) == 2


def test_directives_of_blanks():
    assert parse(f"#syntax={' ' * MANY}x{' ' * MANY}y\nFROM base").directives["syntax"].startswith("x ")
    assert parse(f"#{' ' * MANY}=x\nFROM base").directives == {}


def test_depth_is_bounded():
    assert expand("${A:-" * DEEPEST + "x" + "}" * DEEPEST, {}.get) == "x"
    for depth in (DEEPEST + 1, MANY):
        with pytest.raises(ExpansionError, match=f"more than {DEEPEST} deep") as caught:
            expand("${A:-" * depth + "x" + "}" * depth, {}.get)
        assert caught.value.offset == len("${A:-") * DEEPEST
    assert expand("${A:-x}" * MANY, {}.get) == "x" * MANY  # beside each other they are not deep


def test_growth_is_bounded():
    with pytest.raises(DockerfileError, match=f"more than {LONGEST} characters") as caught:
        config("ENV a=xxxxxxxxxx\n" + "ENV a=$a$a\n" * 64)
    assert 20 < caught.value.line < 30
    with pytest.raises(ExpansionError, match="more than"):
        expand("${A//a/" + "b" * 3000 + "}", {"A": "a" * 3000}.get)
    with pytest.raises(DockerfileError, match=r"more than \d+ ports"):
        config("EXPOSE " + " ".join(f"1-{last}" for last in range(65_535, 60_000, -1)))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("${A#" + "*a" * 50 + "b}", "a" * MANY),
        ("${A##" + "*a" * 50 + "}", ""),
        ("${A%" + "b*a" * 50 + "}", "a" * MANY),
        ("${A/" + "*a" * 50 + "b/x}", "a" * MANY),
        ("${A//" + "a*" * 50 + "/x}", "x"),
        ("${A//a/b}", "b" * MANY),
    ],
)
def test_patterns_that_try_everything(word, expected):
    assert expand(word, {"A": "a" * MANY}.get) == expected


def test_a_pattern_and_a_value_that_are_both_long():
    with pytest.raises(ExpansionError, match="too long for each other"):
        expand("${A#*" + "a" * 2 * MANY + "}", {"A": "a" * 2 * MANY}.get)


def test_many_words():
    assert expand_words("a " * MANY, {}.get) == ("a",) * MANY
    assert expand_words("\\a" * MANY, {}.get) == ("a" * MANY,)
    with pytest.raises(DockerfileError, match="cannot stand within"):
        parse("FROM base\n" + "ONBUILD " * MANY + "RUN x")
    assert parse("FROM base\nRUN " + "[" * MANY).stages[0].instructions[0].command.shell
