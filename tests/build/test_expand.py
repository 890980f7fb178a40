"""Variable substitution and quoting, one row for each rule of the reference."""

from __future__ import annotations

import pytest

from pylxc.build.expand import ExpansionError, expand, expand_words

VARIABLES = {
    "PWD": "/home",
    "KOREAN": "한국어",
    "NULL": "",
    "FOO": "foobarbaz",
    "XY": "xxyy",
    "STARS": "a***yy*",
    "NEEDLE": r"\*/",
    "PATHS": "/foo*/*/*.txt",
    "URL": "http://example.org",
    "HTTP": "http://",
    "META": r"()[]{}^$.*?|\x",
    "1": "one",
    "TWO_LINES": "a\nb",
    "QUOTES": "'\"$PWD",
}

GOOD = [
    # plain text, quotes and escapes
    ("hello", "hello"),
    ("", ""),
    ("he'll'o", "hello"),
    ('he"ll"o', "hello"),
    (r"he\'llo", "he'llo"),
    (r"he\"llo", 'he"llo'),
    (r"abc\tdef", "abctdef"),
    (r"abc\\tdef", r"abc\tdef"),
    (r"abc\\\tdef", r"abc\tdef"),
    (r'"abc\tdef"', r"abc\tdef"),
    (r'"abc\\tdef"', r"abc\tdef"),
    (r"'abc\tdef'", r"abc\tdef"),
    (r"'abc\\tdef'", r"abc\\tdef"),
    ("''", ""),
    ('"\'"', "'"),
    ("'\"'", '"'),
    ("trailing\\", "trailing"),
    ("한글", "한글"),
    # variables
    ("he$PWD", "he/home"),
    ("he${PWD}", "he/home"),
    ("he${PWD}xx", "he/homexx"),
    ("he$PWD.", "he/home."),
    ("he'$PWD'", "he$PWD"),
    ("he'${PWD}'", "he${PWD}"),
    ('he"$PWD"', "he/home"),
    (r"he\$PWD", "he$PWD"),
    (r"he\\$PWD", r"he\/home"),
    (r"he\${PWD}", "he${PWD}"),
    (r'"he\$PWD"', "he$PWD"),
    (r'"he\\$PWD"', r"he\/home"),
    ("$KOREAN", "한국어"),
    ("he$hi", "he"),
    ("he${hi}xx", "hexx"),
    ("he$", "he$"),
    ("he$.x", "he$.x"),
    ("he$1x", "heonex"),
    ("$", "$"),
    ('"$"', "$"),
    ("$QUOTES", "'\"$PWD"),  # a value is not expanded again
    ("$PWD$PWD", "/home/home"),
    # alternatives
    ("he${XXX:-000}xx", "he000xx"),
    ("he${NULL:-000}xx", "he000xx"),
    ("he${NULL-000}xx", "hexx"),
    ("he${XXX-000}xx", "he000xx"),
    ("he${PWD:-000}xx", "he/homexx"),
    ("he${XXX:-}", "he"),
    ("he${XXX:-${PWD}}xx", "he/homexx"),
    ("he${XXX:-${YYY:-yyy}}xx", "heyyyxx"),
    ("he${XXX:-$PWD:}xx", "he/home:xx"),
    ("${XXX:-'a b'}", "a b"),
    (r"${XXX:-a\}b}", "a}b"),
    ("${XXX:-'}'}", "}"),
    ("he${XXX:+${PWD}}xx", "hexx"),
    ("he${PWD:+aaa}", "heaaa"),
    ("he${NULL:+aaa}", "he"),
    ("he${NULL+aaa}", "heaaa"),
    ("${PWD:?message}", "/home"),
    ("${NULL?message}", ""),
    ("${PWD:-${XXX:?not needed}}", "/home"),
    ("${XXX:+${YYY:?not needed}}", ""),
    # patterns
    ("${FOO#f*b}", "arbaz"),
    ("${FOO##f*b}", "az"),
    ("${FOO%b*}", "foobar"),
    ("${FOO%%b*}", "foo"),
    ("${FOO/ba/fo}", "fooforbaz"),
    ("${FOO//ba/fo}", "fooforfoz"),
    ("${XY#*}", "xxyy"),
    ("${XY##*x}", "yy"),
    ("${XY#}", "xxyy"),
    ("${XY%x}", "xxyy"),
    ("${XY#$NULL}", "xxyy"),
    ("${XY/$NULL/ww}", "wwxxyy"),
    ("${XY///}", "xxyy"),
    ("${XXX///}", ""),
    (r"${STARS%%\**\*}", "a"),
    (r"${META#()[]{\}^$.\*\?|\\}", "x"),
    ("${PATHS/$NEEDLE/.}", "/foo.*/*.txt"),
    ("${PATHS//$NEEDLE/.}", "/foo..*.txt"),
    ("${URL/$HTTP/https://}", "https://example.org"),
    (r"${PWD//\//\/}", r"\/home"),
    ("${FOO/o*b/-}", "f-az"),
    ("${TWO_LINES%?b}", "a"),
    ("${PWD/home/${XXX:-away}}", "/away"),
]

BAD = [
    ("he'llo", 2, "single quote"),
    (r"he\\'llo", 4, "single quote"),
    ('he"llo', 2, "double quote"),
    ('"abc\\', 0, "double quote"),
    ("he${PWD", 2, "missing"),
    ("he${", 2, "missing"),
    ("he${}", 2, "bad substitution"),
    ("he${.}", 2, "bad substitution"),
    ("he${PWD:YYY}", 7, "unsupported modifier"),
    ("${PWD=x}", 5, "unsupported modifier"),
    ("${PWD^^}", 5, "unsupported modifier"),
    ("${#PWD}", 3, "unsupported modifier"),
    ("${XXX:-", 7, "missing"),
    ("a${XXX?}", 1, "XXX: is not set"),
    ("${NULL:?}", 0, "NULL: is empty"),
    ("${XXX:?give $PWD a value}", 0, "XXX: give /home a value"),
    ("${XXX:-${YYY:?needed}}", 7, "YYY: needed"),
    ("${XY//ww}", 0, "replacement"),
    ("${XY//}", 0, "replacement"),
    ("${XY#a\\", 5, "missing"),
]


@pytest.mark.parametrize(("word", "expected"), GOOD)
def test_word(word, expected):
    assert expand(word, VARIABLES.get) == expected


@pytest.mark.parametrize(("word", "offset", "reason"), BAD)
def test_bad_word(word, offset, reason):
    with pytest.raises(ExpansionError) as caught:
        expand(word, VARIABLES.get)
    assert reason in caught.value.reason
    assert caught.value.offset == offset
    assert str(caught.value) == caught.value.reason


def test_a_value_may_carry_the_pattern_s_last_escape():
    with pytest.raises(ExpansionError, match="cannot end in the escape"):
        expand("${A#$B}", {"A": "x", "B": "\\"}.get)


def test_other_escape_character():
    assert expand(r"c:\dir`$PWD", VARIABLES.get, "`") == r"c:\dir$PWD"
    assert expand(r'"c:\`"$PWD"', VARIABLES.get, "`") == r"c:\"/home"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("80", ("80",)),
        ("$PORTS", ("80", "443")),
        ('"$PORTS"', ("80 443",)),
        ("1$PORTS/udp", ("180", "443/udp")),
        ("$NONE", ()),
        ("", ()),
        ("a'b c'd e", ("ab cd", "e")),
        (r"a\ b", ("a b",)),
        ("$PORTS $PORTS", ("80", "443", "80", "443")),
    ],
)
def test_words(word, expected):
    assert expand_words(word, {"PORTS": "80 443"}.get) == expected
