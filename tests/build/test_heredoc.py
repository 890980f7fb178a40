"""Here-documents in the text of a Dockerfile, and what Docker's own parser makes of the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dockerfiles import described

from pylxc.build.dockerfile import parse
from pylxc.build.heredoc import Mark, marks
from pylxc.errors import DockerfileError

RECORDED = Path(__file__).parent / "recorded" / "docker-parser.json"

# What Docker's parser leaves to those who use it, and they refuse, too.
LATER = (
    *("SHELL takes", "FROM takes", "needs at least one", "a name is missing", "cannot be put off", "within ONBUILD"),
    *("HEALTHCHECK", "the array is empty", "VOLUME needs", "given twice", "cannot name a stage", " needs "),
    *("give true or false", "unknown flag"),
)


def body(text):
    return parse(f"FROM base\n{text}").stages[0].instructions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN <<EOF", (Mark("EOF"),)),
        ("RUN cat <<-EOF 3<<B", (Mark("EOF", chomp=True), Mark("B", descriptor=3))),
        ("RUN <<'A' <<\"B\" <<C'x'", (Mark("A", expand=False), Mark("B", expand=False), Mark("Cx", expand=False))),
        ("RUN <<'a b'", (Mark("a b", expand=False),)),
        ("RUN <<EOF>out", (Mark("EOF>out"),)),
        ("RUN <<\\EOF", (Mark("EOF"),)),
        ("RUN a<<EOF", ()),
        ("RUN <<<x $((1<<2)) << EOF", ()),
        ("RUN '<<EOF' \"a <<EOF\"", ()),
        ("RUN <<''", ()),
    ],
)
def test_marks(text, expected):
    assert marks(text) == expected


def test_bodies():
    run, copy, last = body(
        "RUN <<A cat <<-B\none\n# no comment\n\n  two \\\nA\n\t\tthree\n\t\tB\n"
        'COPY --chown=1 <<"C" d <<E \\\n /to/\n$x\nC\nE\n'
        "RUN x"
    )
    assert [(one.name, one.content) for one in run.command.heredocs] == [
        ("A", "one\n# no comment\n\n  two \\\n"),
        ("B", "\t\tthree\n"),
    ]
    assert run.command.heredocs[1].text == "three\n"
    assert run.command.argv == ("<<A cat <<-B",)
    assert (run.line, run.end_line, copy.line, copy.end_line, last.line) == (2, 9, 10, 14, 15)
    assert [one.line for one in (*run.command.heredocs, *copy.heredocs)] == [3, 8, 12, 14]
    assert ([str(word) for word in copy.sources], str(copy.destination)) == (["d"], "/to/")
    assert [(one.name, one.content, one.mark.expand) for one in copy.heredocs] == [
        ("C", "$x\n", False),
        ("E", "", True),
    ]


def test_line_ends_of_a_body_are_kept():
    (run,) = body("RUN <<A\r\none\r\n\ttwo\r\nA\r\n")
    assert run.command.heredocs[0].content == "one\r\n\ttwo\r\n"


def test_only_shell_forms_of_three_instructions_have_them():
    run, env, cmd = body('RUN ["a", "<<EOF"]\nENV a=<<EOF\nCMD cat <<EOF')
    assert run.logical.heredocs == env.logical.heredocs == cmd.logical.heredocs == ()


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("RUN cat <<EOF\none\nEOF2\n", 9, "'EOF' has no end"),
        ("RUN cat <<EOF\none\n EOF\n", 9, "'EOF' has no end"),
        ("RUN <<A <<B\nB\nA\n", 9, "'B' has no end"),
        ("RUN echo $(( 1<<2 ))\n", 14, "'2' has no end"),
        ("COPY a <<EOF\nEOF", 8, "cannot be the destination"),
        ("COPY <<EOF\nEOF", 6, "destination"),
    ],
)
def test_bad_here_documents(text, column, reason):
    with pytest.raises(DockerfileError) as caught:
        body(text)
    assert reason in caught.value.reason
    assert (caught.value.line, caught.value.column) == (2, column)


def test_docker_s_parser_says_the_same():
    same = refused = 0
    for line in RECORDED.read_text().splitlines():
        text, go = json.loads(line)
        ours = described(text)
        if ours == go:
            same += 1
            continue
        assert ours is None, text
        refused += 1
        with pytest.raises(DockerfileError) as caught:
            parse(text)
        assert any(words in caught.value.reason for words in LATER), (text, caught.value.reason)
    assert (same > 200, refused < 80) == (True, True)
