"""Reading the text of a Dockerfile: lexing, operands, and every refusal with its place."""

# ruff: noqa: S604  "shell" is a field of a value here; no process is started

from __future__ import annotations

import pickle

import attrs
import pytest

from pylxc.build import instructions as ast
from pylxc.build.dockerfile import parse
from pylxc.build.instructions import Command
from pylxc.errors import DockerfileError

ALL_NAMES = [
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"),
    *("ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
]


def body(text, escape=""):
    """Instructions after a FROM that is put before ``text``."""
    return parse(f"{escape}FROM base\n{text}").stages[0].instructions


def one(text, escape=""):
    (instruction,) = body(text, escape)
    return instruction


def words(found):
    return tuple(map(str, found))


def pairs(found):
    return tuple((str(name), None if value is None else str(value)) for name, value in found)


# -- the lexer


def test_the_redis_example():
    text = """\
# Redis
#
FROM debian:bookworm
RUN apt-get update
RUN apt-get -y install redis-server

EXPOSE 6379
ENTRYPOINT ["/usr/bin/redis-server"]
"""
    made = parse(text.encode())
    assert [(i.name, i.line, i.column, i.end_line) for i in made.instructions] == [
        ("FROM", 3, 1, 3),
        ("RUN", 4, 1, 4),
        ("RUN", 5, 1, 5),
        ("EXPOSE", 7, 1, 7),
        ("ENTRYPOINT", 8, 1, 8),
    ]
    assert str(made.stages[0].base.image) == "debian:bookworm"
    assert made.instructions[-1].command == Command(("/usr/bin/redis-server",), shell=False)
    assert made.instructions[1].source == "RUN apt-get update"


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN b",
        "FROM a\nRUN b\n",
        "\ufeffFROM a\nRUN b\n",
        "FROM a\r\nRUN b\r\n",
        "\n\n  \t\nFROM a\n\n# RUN c\n   # RUN d\nRUN b\n\n",
        "   FROM a\n\tRUN   b   \n",
        "from a\nrUn b\n",
        "FROM \\\n a\nRUN\\\n b\n",
        "FROM a\nRUN \\\n# a comment\n\n   \t\n  # another\nb\n",
        "FROM a\nRUN \\  \t\nb\n",
        "FROM a\nRUN b\\\n",
        "FROM a\nRUN b \\\n\n",
        "# syntax=docker/dockerfile:1\nFROM a\nRUN b\n",
        "#escape=\\\n# check = skip=all\nFROM a\nRUN b\n",
        "  # escape=`\nFROM a\nRUN `\n# c\n\nb\n",
        "FROM a\nRUN \\\r\n\r\n  # c\r\nb\r\n",
        "FROM a\nRUN b\\",
        "FROM a\n\\\n\\\nRUN b\n\\\n",
        "# comment\n# escape=`\nFROM a\nRUN \\\nb\n",  # after a comment there are no directives
        "\n# escape=`\nFROM a\nRUN \\\nb\n",
        "# unknown=x\n# escape=`\nFROM a\nRUN \\\nb\n",
        "\\\nFROM a\n\\\n  RUN b\n",
    ],
)
def test_ways_to_write_the_same(text):
    made = parse(text.encode())
    assert [i.name for i in made.instructions] == ["FROM", "RUN"]
    assert str(made.stages[0].base.image) == "a"
    assert made.instructions[1].command == Command(("b",), shell=True)


def test_blanks_inside_a_continued_line_are_kept():
    assert one('RUN echo "\\\n     hello\\\n     world"').command.argv == ('echo "     hello     world"',)


def test_an_escaped_escape_does_not_continue_the_line():
    instructions = body("COPY a c:\\\\\nRUN b")
    assert [i.name for i in instructions] == ["COPY", "RUN"]
    assert str(instructions[0].destination) == "c:\\\\"


def test_a_hash_in_an_operand_is_no_comment():
    assert one("RUN echo a # b").command.argv == ("echo a # b",)
    assert one("RUN echo \\\n  a#b").command.argv == ("echo   a#b",)


def test_escape_directive():
    made = parse("# escape=`\nFROM a\nCOPY b c:\\\nRUN d `\ne\n")
    assert made.escape == "`"
    assert [i.name for i in made.instructions] == ["FROM", "COPY", "RUN"]
    assert str(made.instructions[1].destination) == "c:\\"
    assert made.instructions[2].command.argv == ("d e",)


def test_directives_are_kept():
    made = parse("#SynTax = docker/dockerfile:1.7 \n# check=error=true\nFROM a")
    assert made.directives == {"syntax": "docker/dockerfile:1.7", "check": "error=true"}


def test_only_a_line_feed_ends_a_line():
    assert one("RUN a\x0bb\u2028c\x85d").command.argv == ("a\x0bb\u2028c\x85d",)


def test_lines_and_columns_of_continued_words():
    text = "FROM a\n  COPY --chown=u \\\n# note\n    one \\\n two /to/\nRUN x"
    copy, run = parse(text).stages[0].instructions
    assert (copy.line, copy.column, copy.end_line, run.line) == (2, 3, 5, 6)
    assert [copy.logical.locate(w.offset) for w in (*copy.sources, copy.destination, copy.chown)] == [
        (4, 5),
        (5, 2),
        (5, 6),
        (2, 16),
    ]
    assert copy.source == "COPY --chown=u     one  two /to/"


# -- operands


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ("a b  c", Command(("a b  c",), shell=True)),
        ('["a", "b c"]', Command(("a", "b c"), shell=False)),
        ('[ "a" ,\\\n "b" ]', Command(("a", "b"), shell=False)),
        ('["\\u00e9\\n\\ud800"]', Command(("é\n\ufffd",), shell=False)),
        ("['a', 'b']", Command(("['a', 'b']",), shell=True)),
        ('["a", "b"', Command(('["a", "b"',), shell=True)),
        ('["a"] b', Command(('["a"] b',), shell=True)),
        ('["a",]', Command(('["a",]',), shell=True)),
        ("[ -f x ] && y", Command(("[ -f x ] && y",), shell=True)),
        ("[" * 100_000, Command(("[" * 100_000,), shell=True)),
        ("$HOME 'x' \\y", Command(("$HOME 'x' \\y",), shell=True)),
        ("echo $((1<<2)) <<<x", Command(("echo $((1<<2)) <<<x",), shell=True)),
    ],
)
@pytest.mark.parametrize("name", ["RUN", "CMD", "ENTRYPOINT"])
def test_shell_and_exec_form(name, operands, expected):
    assert one(f"{name} {operands}").command == expected


@pytest.mark.parametrize("name", ["CMD", "ENTRYPOINT"])
def test_an_empty_array_is_a_command_of_nothing(name):
    assert one(f"{name} []").command == Command((), shell=False)


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ("a=b", (("a", "b"),)),
        ('a=b c="d e"', (("a", "b"), ("c", '"d e"'))),
        ("a=b\\ c d='e f'", (("a", "b\\ c"), ("d", "'e f'"))),
        ("a=", (("a", ""),)),
        ("a=b=c", (("a", "b=c"),)),
        ("a b c", (("a", "b c"),)),
        ('a   "b  c"', (("a", '"b  c"'),)),
        ("a b=c", (("a", "b=c"),)),
        ("a=1 \\\n  b=2 \\\n# note\n  c=3", (("a", "1"), ("b", "2"), ("c", "3"))),
        ('"a b"="c d"', (('"a b"', '"c d"'),)),
        ("a='\\' b=c", (("a", "'\\'"), ("b", "c"))),  # no escapes inside single quotes
    ],
)
@pytest.mark.parametrize("name", ["ENV", "LABEL"])
def test_pairs(name, operands, expected):
    assert pairs(one(f"{name} {operands}").pairs) == expected


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ("a", (("a", None),)),
        ("a=", (("a", ""),)),
        ("a=b c d='e f'", (("a", "b"), ("c", None), ("d", "'e f'"))),
    ],
)
def test_arg(operands, expected):
    assert pairs(one(f"ARG {operands}").declarations) == expected


@pytest.mark.parametrize("name", ["COPY", "ADD"])
def test_copy(name):
    made = one(f"{name} --chown=1:2 --chmod=755 a 'b c /d/")
    assert made.name == name
    assert words(made.sources) == ("a", "'b", "c")
    assert str(made.destination) == "/d/"
    assert (str(made.chown), str(made.chmod)) == ("1:2", "755")
    assert {flag: words(values) for flag, values in made.flags.items()} == {"chown": ("1:2",), "chmod": ("755",)}
    assert words(one(f'{name} ["a b", "c"]').sources) == ("a b",)
    assert words(one(f"{name} -- --odd c").sources) == ("--odd",)
    assert one(f"{name} a b").chown is None


def test_the_rest():
    assert str(one("WORKDIR /a b ").path) == "/a b"
    assert str(one("USER me:us").user) == "me:us"
    assert words(one("EXPOSE 80 $P/udp").ports) == ("80", "$P/udp")
    assert words(one("VOLUME /a /b").paths) == words(one('VOLUME ["/a", "/b"]').paths) == ("/a", "/b")
    assert one('SHELL ["/bin/bash", "-c"]').argv == ("/bin/bash", "-c")
    assert str(one("STOPSIGNAL SIGTERM").signal) == "SIGTERM"
    assert str(one("MAINTAINER A B <a@b>").author) == "A B <a@b>"


def test_from_and_global_args():
    made = parse("ARG A=1\nARG B\nFROM x:$A as Final\n")
    assert [pairs(arg.declarations) for arg in made.global_args] == [(("A", "1"),), (("B", None),)]
    assert made.stages == (ast.Stage(made.stages[0].base, ()),)
    assert (str(made.stages[0].base.image), made.stages[0].base.alias) == ("x:$A", "final")


def test_stages_in_order():
    made = parse(
        "ARG V=1\nFROM a AS one\nRUN b\nFROM one\nFROM --platform=$BUILDPLATFORM c as Two\nCOPY --from=one d e"
    )
    assert [(str(stage.base.image), stage.base.alias, len(stage.instructions)) for stage in made.stages] == [
        ("a", "one", 1),
        ("one", None, 0),
        ("c", "two", 1),
    ]
    assert [str(stage.base.platform) for stage in made.stages] == ["None", "None", "$BUILDPLATFORM"]
    assert str(made.stages[2].instructions[0].source_stage) == "one"
    assert [one.name for one in made.instructions] == ["ARG", "FROM", "RUN", "FROM", "FROM", "COPY"]


def test_values_are_frozen_and_equal_by_what_they_say():
    instruction = one("USER me")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        instruction.user = None
    assert instruction == one("\n\n  USER   me")


# -- refusals

BAD = [
    # text, line, column, part of the reason
    ("", 1, 1, "empty"),
    ("\n  \n# only a comment\n", 1, 1, "empty"),
    ("\\\n", 1, 1, "empty"),
    ("ARG A\n\nARG B\n", 3, 1, "no FROM"),
    ("RUN a\nFROM b\n", 1, 1, "RUN before FROM"),
    ("FROM a\n  RUNN b\n", 2, 3, "unknown instruction 'RUNN': did you mean RUN?"),
    ("FROM a\nCPOY b c", 2, 1, "did you mean COPY?"),
    ("FROM a\nentrypont b", 2, 1, "'entrypont': did you mean ENTRYPOINT?"),
    ("FROM a\n\nXYZZY", 3, 1, "known are ADD, ARG"),
    ("FROM a\nFRON b", 2, 1, "did you mean FROM?"),
    ("FROM a\nRUN b\n&& c", 3, 1, "unknown instruction '&&'"),
    ("FROM", 1, 1, "FROM needs an image"),
    ("FROM a b", 1, 6, "AS name"),
    ("FROM a IN b", 1, 6, "AS name"),
    ("FROM a AS 1b", 1, 11, "cannot name a stage"),
    ("FROM a AS b!", 1, 11, "cannot name a stage"),
    ("FROM a\nRUN []", 2, 5, "empty"),
    ('FROM a\nRUN ["a", 1]', 2, 5, "must be a string"),
    ('FROM a\nCMD ["a", ["b"]]', 2, 5, "must be a string"),
    ('FROM a\nCMD ["a\\u0000"]', 2, 5, "NUL"),
    ("FROM a\nCOPY", 2, 1, "destination"),
    ("FROM a\nCOPY b", 2, 6, "destination"),
    ('FROM a\nCOPY ["b"]', 2, 6, "destination"),
    ("FROM a\nCOPY []", 2, 6, "destination"),
    ("FROM a\nADD --chown=x b", 2, 15, "destination"),
    ("FROM a\nCOPY --chwon=1 b c", 2, 6, "unknown flag --chwon of COPY: did you mean chown?"),
    ("FROM a\nCOPY --chown=1 \\\n  --chown=2 b c", 3, 3, "given twice"),
    ("FROM a\nCOPY --chown b c", 2, 6, "needs a value"),
    ("FROM a\nCOPY --chown= b c", 2, 6, "needs a value"),
    ("FROM a\nUSER --x y", 2, 6, "USER takes no flags"),
    ("FROM a\nENV", 2, 1, "name=value"),
    ("FROM a\nENV b", 2, 5, "ENV needs a value for b"),
    ("FROM a\nENV b=c d", 2, 9, "'d' has no '='"),
    ("FROM a\nENV =c", 2, 5, "name is missing"),
    ("FROM a\nLABEL b", 2, 7, "LABEL needs a value for b"),
    ("FROM a\nARG", 2, 1, "ARG needs a name"),
    ("FROM a\nARG =b", 2, 5, "name is missing"),
    ("FROM a\nWORKDIR", 2, 1, "WORKDIR needs"),
    ("FROM a\nUSER", 2, 1, "USER needs"),
    ("FROM a\nEXPOSE", 2, 1, "EXPOSE needs"),
    ("FROM a\nVOLUME []", 2, 8, "at least one path"),
    ("FROM a\nSHELL /bin/sh -c", 2, 7, "JSON array"),
    ("FROM a\nSHELL []", 2, 7, "JSON array"),
    ("# escape=x\nFROM a", 1, 1, "escape=x"),
    ("# syntax=a\n# Syntax=b\nFROM a", 2, 1, "only once"),
    ("FROM a\nRUN b\0c", 2, 6, "NUL"),
    (b"FROM a\nRUN caf\xe9\n", 2, 8, "not UTF-8"),
]


@pytest.mark.parametrize(("text", "line", "column", "reason"), BAD)
def test_refused_with_its_place(text, line, column, reason):
    with pytest.raises(DockerfileError) as caught:
        parse(text, "sub/Dockerfile")
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert reason in error.reason
    assert str(error).startswith(f"sub/Dockerfile:{line}:{column}: ")
    assert pickle.loads(pickle.dumps(error)).line == line  # noqa: S301  our own bytes


def test_the_message_shows_the_line_and_marks_the_column():
    with pytest.raises(DockerfileError) as caught:
        parse("FROM a\nRUN b && \\\n   c\nCOPY x \\\n   --chwon=1 y\n RUNN c\n")
    assert caught.value.source == " RUNN c"
    assert str(caught.value).splitlines()[1:] == ["   RUNN c", "   ^^^^"]


def test_of_a_long_line_the_message_shows_what_lies_around():
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM a\nCOPY {'x ' * 100_000}--y []\nRUNN {'z' * 100_000}")
    assert len(str(caught.value)) < 1000
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM a\nENV {'x=1 ' * 100}nothing {'x=1 ' * 100}")
    message = str(caught.value).splitlines()
    assert (caught.value.column, len(caught.value.source)) == (405, 812)
    mark = message[2].index("^")
    assert message[1][mark : mark + 8] == "nothing "
    assert message[2].strip() == "^^^^^^^"
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM a\nENV x=1 {'y' * (1 << 20)}")
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_instruction_of_the_reference_is_known(name):
    if name in ("RUN", "CMD", "ENTRYPOINT"):
        (found,) = parse(f"FROM a\n{name}").stages[0].instructions
        assert found.command == Command(("",), shell=True)
        return
    with pytest.raises(DockerfileError) as caught:
        parse(f"FROM a\n{name}")
    assert "unknown instruction" not in str(caught.value)
