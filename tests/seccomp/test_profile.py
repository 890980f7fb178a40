"""Profiles as they come: what is read, what is refused, what is kept."""

from __future__ import annotations

import json

import pytest

from pylxc.errors import SpecError
from pylxc.seccomp import programs
from pylxc.seccomp.default import default_profile
from pylxc.seccomp.profile import Condition, Host, parse
from pylxc.spec import ContainerSpec

HOST = Host(frozenset({"CHOWN"}), "x86_64", (5, 10))
ALLOW = {"action": "SCMP_ACT_ALLOW"}


def rule(**keys):
    return {"names": ["read"], **ALLOW, **keys}


def profile(*rules, **keys):
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **keys}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ([], "the profile"),
        ({}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_MAYBE"}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}, "defaultErrnoRet"),
        (profile(sycalls=[]), "sycalls"),
        (profile(listenerPath="/x"), "listenerPath"),
        (profile(7), r"syscalls\[0\]"),
        (profile(rule(), rule(action="ALLOW")), r"syscalls\[1\]\.action"),
        (profile(rule(errnoRet=5)), r"syscalls\[0\]\.errnoRet"),
        (profile({"names": [3], **ALLOW}), r"syscalls\[0\]\.names"),
        (profile(ALLOW), r"syscalls\[0\]\.names"),
        (profile(rule(arg=[])), r"syscalls\[0\]\.arg"),
        (profile(rule(args=[{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])), r"syscalls\[0\]\.args\[0\]\.index"),
        (profile(rule(args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])), r"args\[0\]\.value"),
        (profile(rule(args=[{"index": 0, "value": 2**64, "op": "SCMP_CMP_EQ"}])), r"args\[0\]\.value"),
        (profile(rule(args=[{"index": 0, "value": 1, "op": "=="}])), r"args\[0\]\.op"),
        (profile(rule(includes={"kernel": "4.8"})), r"includes\.kernel"),
        (profile(rule(includes={"minKernel": "new"})), "minKernel"),
        (profile(architectures=["AMD64"]), "architectures"),
        ({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}}, "syscalls"),
    ],
)
def test_what_is_wrong_is_named(document, where):
    with pytest.raises(SpecError, match=where) as caught:
        parse(document, HOST)
    assert caught.value.option == "seccomp"


def test_two_conditions_on_one_argument_are_alternatives():
    conditions = [{"index": 1, "value": n, "op": "SCMP_CMP_EQ"} for n in (4, 5)]
    rules = parse(profile(rule(args=conditions)), HOST).rules
    assert [one.conditions for one in rules] == [
        (Condition(1, "SCMP_CMP_EQ", 4),),
        (Condition(1, "SCMP_CMP_EQ", 5),),
    ]


def test_a_mask_stands_first():
    entry = {"index": 0, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}
    [one] = parse(profile(rule(args=[entry])), HOST).rules
    assert one.conditions == (Condition(0, "SCMP_CMP_MASKED_EQ", 0x10, 0xF0),)


@pytest.mark.parametrize(
    ("keys", "applies"),
    [
        ({"includes": {"caps": ["CAP_CHOWN"]}}, True),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_CHOWN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, True),
        ({"includes": {"arches": ["amd64"]}}, True),
        ({"includes": {"arches": ["s390x"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "5.11"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
    ],
)
def test_rules_for_some_hosts(keys, applies):
    assert bool(parse(profile(rule(**keys)), HOST).rules) is applies


def test_the_option(tmp_path):
    text = json.dumps(profile(rule()), separators=(",", ":"))
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(profile(rule()), indent=1))
    for value in (profile(rule()), text, path, str(path)):
        spec = ContainerSpec(image="x", seccomp=value)
        assert spec.seccomp == text
        assert ContainerSpec.from_json(spec.to_json()) == spec
    assert ContainerSpec(image="x", seccomp="unconfined").seccomp == "unconfined"
    assert ContainerSpec(image="x", seccomp="default").seccomp == "default"


@pytest.mark.parametrize("value", ["/no/such/file", "{", 7, {"defaultAction": "no"}])
def test_the_option_refused(value):
    with pytest.raises(SpecError) as caught:
        ContainerSpec(image="x", seccomp=value)
    assert caught.value.option == "seccomp"


def test_programs_are_kept_and_damage_is_noticed(tmp_path):
    spec, directory = ContainerSpec(image="x"), str(tmp_path / "seccomp")
    programs._program.cache_clear()
    made = programs.program_for(spec, directory)
    [path] = (tmp_path / "seccomp").iterdir()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    content = path.read_bytes()
    for damaged in (b"", content[:-8], content[:40] + b"\xff" * 8 + content[48:]):
        path.write_bytes(damaged)
        programs._program.cache_clear()
        assert programs.program_for(spec, directory) == made
        assert path.read_bytes() == content
    # What is on disk is what is used.
    own = b"\x06\0\0\0\0\0\xff\x7f"
    import hashlib

    path.write_bytes(hashlib.sha256(own).digest() + own)
    programs._program.cache_clear()
    assert programs.program_for(spec, directory) == own
    programs._program.cache_clear()


def test_no_place_to_keep_it(tmp_path):
    (tmp_path / "file").write_text("")
    programs._program.cache_clear()
    assert programs.program_for(ContainerSpec(image="x"), str(tmp_path / "file" / "x"))


def test_capabilities_make_another_program(tmp_path):
    directory = str(tmp_path)
    plain = programs.program_for(ContainerSpec(image="x"), directory)
    assert programs.program_for(ContainerSpec(image="x", cap_add=["SYS_ADMIN"]), directory) != plain
    assert programs.program_for(ContainerSpec(image="x", privileged=True), directory) == b""
    assert programs.program_for(ContainerSpec(image="x", seccomp=default_profile()), directory) == plain
