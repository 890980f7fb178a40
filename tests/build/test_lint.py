"""The build checks: each rule with what it finds and what it leaves alone."""

from __future__ import annotations

import pytest

import pylxc
from pylxc.build.check import check
from pylxc.build.dockerfile import parse
from pylxc.build.ignore import Ignore
from pylxc.build.lint import EXPERIMENTAL, RULES, LintWarning, Surroundings, lint
from pylxc.build.platforms import platform_args
from pylxc.errors import DockerfileError
from pylxc.imageconfig import ImageConfig

PLATFORM = platform_args()["TARGETPLATFORM"]
ALL = "# check=experimental=all\n"


def findings(text, **around):
    """Return (rule, line, column) of what is found; the first line turns the experimental rules on."""
    return [(one.rule, one.line, one.column) for one in lint(parse(ALL + text), Surroundings(**around))]


BAD = [
    # the file after the first line, then the rule with line and column
    ("FROM scratch AS Base", "StageNameCasing", 2, 17),
    ("FROM scratch as base", "FromAsCasing", 2, 14),
    ("from scratch AS base", "FromAsCasing", 2, 14),
    ("FROM scratch\nCOPY a \\\n\n b", "NoEmptyContinuation", 4, 1),
    ("FROM scratch\ncopy a /b\nCOPY a /b", "ConsistentInstructionCasing", 3, 1),
    ("From scratch\nCOPY a /b", "ConsistentInstructionCasing", 2, 1),
    ("from scratch\nCOPY a /b\ncopy a /b", "ConsistentInstructionCasing", 3, 1),
    ("FROM scratch AS a\nFROM scratch AS a", "DuplicateStageName", 3, 17),
    ("FROM scratch AS scratch", "ReservedStageName", 2, 17),
    ("FROM scratch AS context", "ReservedStageName", 2, 17),
    ("FROM scratch\nCMD a", "JSONArgsRecommended", 3, 1),
    ("FROM scratch\nENTRYPOINT a", "JSONArgsRecommended", 3, 1),
    ("FROM scratch\nMAINTAINER a", "MaintainerDeprecated", 3, 1),
    ("ARG tag=1\nFROM base:${tag}$vresion", "UndefinedArgInFrom", 3, 6),
    ("FROM --platform=$BULIDPLATFORM scratch", "UndefinedArgInFrom", 2, 17),
    ("FROM scratch\nWORKDIR a", "WorkdirRelativePath", 3, 9),
    ("FROM scratch\nCOPY $foo /b", "UndefinedVar", 3, 6),
    ("FROM scratch\nENV A=$PAHT", "UndefinedVar", 3, 7),
    ("FROM scratch\nARG A=$B", "UndefinedVar", 3, 7),
    ('FROM scratch\nCMD ["a"]\nCMD ["b"]', "MultipleInstructionsDisallowed", 3, 1),
    ('FROM scratch\nENTRYPOINT ["a"]\nENTRYPOINT ["b"]', "MultipleInstructionsDisallowed", 3, 1),
    ("FROM scratch\nHEALTHCHECK NONE\nHEALTHCHECK NONE", "MultipleInstructionsDisallowed", 3, 1),
    ("FROM scratch\nENV a b", "LegacyKeyValueFormat", 3, 1),
    ("FROM scratch\nLABEL a b c", "LegacyKeyValueFormat", 3, 1),
    ("FROM --platform=$TARGETPLATFORM scratch", "RedundantTargetPlatform", 2, 17),
    ("FROM scratch\nENV AWS_SECRET=1", "SecretsUsedInArgOrEnv", 3, 5),
    ("FROM scratch\nARG a=1 github_token", "SecretsUsedInArgOrEnv", 3, 9),
    ("ARG PASSWORD\nFROM scratch", "SecretsUsedInArgOrEnv", 2, 5),
    ("ARG T\nFROM base:${T}", "InvalidDefaultArgInFrom", 3, 6),
    ("ARG T=A/B\nFROM ${T}", "InvalidDefaultArgInFrom", 3, 6),
    (f"FROM --platform={PLATFORM} scratch", "FromPlatformFlagConstDisallowed", 2, 17),
    ("# not about it\nFROM scratch AS base", "InvalidDefinitionDescription", 3, 1),
    ("# V is\n# not about it\nARG V=1\nFROM scratch", "InvalidDefinitionDescription", 4, 1),
    ("FROM scratch\nEXPOSE 80/TCP", "ExposeProtoCasing", 3, 8),
    ("FROM scratch\nEXPOSE 80 127.0.0.1:80:80", "ExposeInvalidFormat", 3, 11),
    ("FROM scratch\nEXPOSE 80:80", "ExposeInvalidFormat", 3, 8),
]

FINE = [
    "FROM scratch AS base\nFROM scratch AS b2",
    "from scratch as base",
    "FROM scratch\nCOPY a \\\n# a comment\n b",
    "FROM scratch\nCOPY a /b\n",
    'FROM scratch\nCMD ["a"]\nENTRYPOINT []',
    'FROM scratch\nSHELL ["/bin/x", "-c"]\nCMD a',
    "ARG A\nFROM base${A}\n",
    "FROM --platform=$BUILDPLATFORM base",
    "ARG A=1\nFROM --platform=${A:+$BUILDPLATFORM} base",
    "FROM scratch\nWORKDIR /a\nWORKDIR b",
    "FROM scratch AS a\nWORKDIR /a\nFROM a\nWORKDIR b",
    "FROM scratch\nARG foo\nCOPY $foo $PATH\nENV a=$foo b=${foo:-x}",
    "FROM scratch AS a\nENV foo=1\nARG bar=2\nFROM a\nCOPY $foo $bar",
    "FROM scratch\nARG A=1 B=$A",
    "FROM unknown\nCOPY $anything /b",  # who knows what it sets
    'FROM scratch AS a\nCMD ["a"]\nFROM a\nCMD ["b"]',
    "FROM scratch\nENV a=b c=d\nLABEL e=f",
    "FROM scratch\nENV PUBLIC_KEY=1 TOKEN_FILE=/x PASSWORD_VERSION=1 KEYBOARD=us MONKEY=1",
    "ARG T=1\nFROM base:${T}\n",
    f"FROM --platform={PLATFORM} base AS base-{PLATFORM.split('/')[1]}",
    "# not about it\n\nFROM scratch AS base",
    "# not about it\n#\nFROM scratch AS base",
    "# base is about it\nFROM scratch AS base\n# V is too\nARG V=1",
    "# about nothing\nFROM scratch\n# a file\nCOPY a /b",
    "FROM scratch\nEXPOSE 80 81/tcp 82-83/udp",
    "FROM scratch\nRUN echo $nothing '$x'\nHEALTHCHECK CMD $x\n",  # the shell's affair
]


@pytest.mark.parametrize(("text", "rule", "line", "column"), BAD)
def test_what_is_found(text, rule, line, column):
    found = findings(text)
    assert (rule, line, column) in found
    assert {one for one, _, _ in found} <= {rule, "InvalidDefaultArgInFrom"}


@pytest.mark.parametrize("text", FINE)
def test_what_is_left_alone(text):
    allowed = {"InvalidDefaultArgInFrom"} if "ARG A\n" in text else set()
    assert {rule for rule, _, _ in findings(text)} <= allowed


def test_every_rule_is_tried_and_has_its_page():
    tried = {rule for _, rule, _, _ in BAD} | {"CopyIgnoredFile", "InvalidBaseImagePlatform"}
    assert tried == RULES
    assert len(RULES) == 22
    (one,) = lint(parse("FROM scratch\nCMD a"))
    assert one == LintWarning(
        "JSONArgsRecommended",
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        2,
        1,
        "https://docs.docker.com/reference/build-checks/json-args-recommended/",
    )
    assert lint(parse("FROM scratch\nENV A_KEY=1"))[0].url.endswith("/secrets-used-in-arg-or-env/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM scratch\nENV A=$PAHT", "Usage of undefined variable '$PAHT' (did you mean $PATH?)"),
        ("FROM scratch\nENV A=$zzzz", "Usage of undefined variable '$zzzz'"),
        ("ARG VERSION=1\nFROM b:$VRESION", "FROM argument 'VRESION' is not declared (did you mean VERSION?)"),
        ("FROM scratch\nENV A_KEY=1", 'Do not use ARG or ENV instructions for sensitive data (ENV "A_KEY")'),
        ("FROM scratch\nENV a b", '"ENV key=value" should be used instead of legacy "ENV key value" format'),
    ],
)
def test_messages(text, message):
    assert message in [one.message for one in lint(parse(text))]


def test_what_is_ignored():
    ignore = Ignore.parse("*.o\ndir\n")
    text = "FROM scratch\nCOPY a.o b dir/x /to/\nADD ./a.o http://h/a.o /to/\nCOPY --from=x a.o /b"
    assert findings(text, ignore=ignore) == [
        ("CopyIgnoredFile", 3, 6),
        ("CopyIgnoredFile", 3, 12),
        ("CopyIgnoredFile", 4, 5),
    ]
    assert findings(text, ignore=Ignore.parse("*.o\n!a.o\n")) == []
    assert findings("FROM scratch\nCOPY . /", ignore=Ignore.parse("*\n")) == []


def test_what_is_known_of_the_base():
    config = ImageConfig(env={"JAVA_HOME": "/j"}, shell=("/bin/x",))  # noqa: S604  a field of a value
    known = {"java": (config, PLATFORM)}
    text = "FROM java\nCOPY $JAVA_HOME $JAVA_HOEM\nCMD a"
    assert findings(text, base=known.get) == [("UndefinedVar", 3, 17)]
    other = {"java": (ImageConfig(), "linux/riscv64")}
    assert findings("FROM java\nFROM unknown", base=other.get) == [("InvalidBaseImagePlatform", 2, 6)]


def test_arguments_count():
    text = "ARG I\nFROM $I\nARG A\nENV B=$A"
    assert findings(text, args={"I": "scratch", "A": "1"}) == [("InvalidDefaultArgInFrom", 3, 6)]


def test_skip_and_experimental():
    text = "FROM scratch as Base\nCMD a\n# hm\nARG V"
    assert {one.rule for one in lint(parse(text))} == {"FromAsCasing", "StageNameCasing", "JSONArgsRecommended"}
    assert {one.rule for one in lint(parse(f"# check=skip=FromAsCasing, StageNameCasing\n{text}"))} == {
        "JSONArgsRecommended"
    }
    assert lint(parse(f"# check=skip=all;error=true\n{text}")) == ()
    found = {one.rule for one in lint(parse(f"# check=experimental=InvalidDefinitionDescription\n{text}"))}
    assert found & EXPERIMENTAL == {"InvalidDefinitionDescription"}


@pytest.mark.parametrize("value", ["skip", "skip:all", "error=perhaps", "ignore=all", "=x"])
def test_a_directive_that_says_nothing(value):
    with pytest.raises(DockerfileError) as caught:
        lint(parse(f"# syntax=x\n# check={value}\nFROM scratch"))
    assert (caught.value.line, caught.value.reason.startswith(f"check={value}: write skip=")) == (2, True)


def test_checks_of_a_directory(build):
    path = build.write({"Dockerfile": "# check=experimental=all\nFROM busybox AS Big\nCOPY x y", ".dockerignore": "x"})
    assert [str(one) for one in check(path, engine=build.engine)] == [
        "StageNameCasing: Stage name 'Big' should be lowercase (line 2)",
        'CopyIgnoredFile: Attempting to Copy file "x" that is excluded by .dockerignore (line 3)',
    ]
    with pytest.raises(DockerfileError, match="no such file"):
        check(path, "Other")


def test_checks_are_warnings_of_the_build(build):
    build("FROM scratch AS Base\nCMD a")
    assert [event.instruction.partition(":")[0] for event in build.events if event.kind == "warning"] == [
        "StageNameCasing",
        "JSONArgsRecommended",
    ]
    build("# check=skip=all\nFROM scratch AS Base\nCMD a")
    assert [event for event in build.events if event.kind == "warning"] == []
    with pytest.raises(pylxc.DockerfileError, match=r"StageNameCasing: .* \(and 1 more\)") as caught:
        build("# check=error=true\nFROM scratch AS Base\nCMD a")
    assert (caught.value.line, caught.value.column, build.events) == (2, 17, [])
