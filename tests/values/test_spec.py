"""ContainerSpec: every option has one normal form, and what cannot be is refused by name."""

import os
import pathlib
import pickle
import typing

import attrs
import pytest

from pylxc.capabilities import CAPABILITIES, DEFAULT_CAPABILITIES
from pylxc.errors import SpecError, UnsupportedError
from pylxc.imageconfig import Healthcheck
from pylxc.mounts import Mount
from pylxc.normalise import NORMAL, Device, Port, read_env_file, signal_name, signal_number, sysctl_path
from pylxc.options import Options
from pylxc.spec import _DEFAULTS, ContainerSpec


def spec(**options):
    return ContainerSpec.from_options("host", ["true"], options)


def refused(**options):
    with pytest.raises(SpecError) as caught:
        spec(**options)
    return caught.value


# -- the whole ---------------------------------------------------------------------------------------------------------

# One value, in a form that needs normalising, for each option that is carried out, and its normal form.
CARRIED_OUT = {
    "name": ("web-1", "web-1"),
    "hostname": ("a.example", "a.example"),
    "env": (["A=b=c", "N="], {"A": "b=c", "N": ""}),
    "workdir": ("//srv/./x/", "/srv/x"),
    "user": (1000, "1000"),
    "groups": (["audio", 1001, "audio"], ("audio", "1001")),
    "entrypoint": ("sh -c", ("sh", "-c")),
    "labels": (["a=b", "c"], {"a": "b", "c": ""}),
    "mounts": (
        ["type=bind,src=/h,dst=/m,ro"],
        (Mount(type="bind", source="/h", target="/m", read_only=True),),
    ),
    "volumes": ({"/h": "/v:ro"}, (Mount(type="bind", source="/h", target="/v", read_only=True),)),
    "tmpfs": ({"/t": "size=64m"}, (Mount(type="tmpfs", target="/t", data="size=67108864"),)),
    "read_only": (True, True),
    "expose": ([80, "53/UDP", "90-91", "80"], ("80/tcp", "53/udp", "90/tcp", "91/tcp")),
    "network": (["front", "back"], ("front", "back")),
    "ip": ("10.5.0.9", "10.5.0.9"),
    "ip6": ("fd00:05::9", "fd00:5::9"),
    "aliases": (["db"], ("db",)),
    "dns": (["192.0.2.53"], ("192.0.2.53",)),
    "dns_search": (["example.org", "corp.example"], ("example.org", "corp.example")),
    "dns_opt": ("ndots:2", ("ndots:2",)),
    "extra_hosts": (["db:192.0.2.1", "six=2001:db8::1"], {"db": "192.0.2.1", "six": "2001:db8::1"}),
    "shm_size": ("1m", 1 << 20),
    "memory": ("512m", 512 << 20),
    "memory_swap": (-1, -1),
    "cpus": (1.5, 1.5),
    "cpu_shares": (512, 512),
    "cpuset": ("0-1,3", "0-1,3"),
    "pids_limit": (100, 100),
    "io_weight": (500, 500),
    "oom_score_adj": (-500, -500),
    "ulimits": ({"nofile": (1024, 2048), "core": 0}, {"nofile": (1024, 2048), "core": (0, 0)}),
    "cap_add": (["cap_net_admin", "NET_ADMIN"], ("NET_ADMIN",)),
    "cap_drop": (["all"], ("ALL",)),
    "privileged": (True, True),
    "devices": (["/dev/fuse"], (Device("/dev/fuse", "/dev/fuse"),)),
    "no_new_privileges": (False, False),
    "userns": ("host", "host"),
    "pid": ("shareable", "private"),
    "ipc": ("private", "private"),
    "uts": ("private", "private"),
    "cgroup": ("host", "host"),
    "seccomp": ("unconfined", "unconfined"),
    "sysctls": ({"kernel.msgmax": 65536}, {"kernel.msgmax": "65536"}),
    "tty": (True, True),
    "stdin": (True, True),
    "init": (True, True),
    "stop_signal": ("int", "SIGINT"),
    "stop_timeout": ("1m30s", 90.0),
    "restart": ("no", "no"),
    "healthcheck": ({"test": "true", "interval": "5s"}, Healthcheck(test=("CMD-SHELL", "true"), interval=5.0)),
    "detach": (True, True),
    "remove": (True, True),
    "pull": ("always", "always"),
    "platform": ("linux/arm64", "linux/arm64"),
    "ports": ({6379: 0}, (Port(6379),)),
    "log": ({"max_size": "10m"}, {"max_size": 10 << 20, "max_files": 1}),
}

# What an option cannot do without.
BESIDE = {option: {"network": "backend"} for option in ("aliases", "ip", "ip6")}


@pytest.mark.parametrize("option", sorted(CARRIED_OUT))
def test_each_option_has_one_normal_form(option):
    given, normal = CARRIED_OUT[option]
    made = spec(**{option: given}, **BESIDE.get(option, {}))
    assert getattr(made, option) == normal
    assert type(getattr(made, option)) is type(normal)
    assert attrs.evolve(made) == made
    assert ContainerSpec.from_json(made.to_json()) == made


def test_the_table_above_covers_every_option():
    assert set(CARRIED_OUT) | {"image", "command", "env_file"} == set(_DEFAULTS) == set(NORMAL)


def test_the_typed_options_are_the_fields():
    assert set(typing.get_args(Options) or Options.__annotations__) == set(_DEFAULTS) - {"image", "command"}


def test_everything_at_once_survives_json_pickle_and_evolve():
    given = {option: value for option, (value, _) in CARRIED_OUT.items()}
    given["network"] = "front"  # several give no choice of addresses
    made = spec(**given)
    assert ContainerSpec.from_json(made.to_json()) == made
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  made here
    assert attrs.evolve(made, name="other").name == "other"
    assert made.to_json().isascii()


def test_the_defaults_are_left_out_of_json():
    assert ContainerSpec.from_options("host", None, {}).to_json() == '{"image":"host","network":"default"}'


def test_none_means_the_default():
    assert spec(**dict.fromkeys(set(_DEFAULTS) - {"image", "command"})) == spec()


def test_a_spec_is_frozen_and_does_not_share_what_it_was_given():
    env = {"A": "1"}
    made = spec(env=env)
    env["A"] = "2"
    assert made.env == {"A": "1"}
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.name = "x"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"image":"a","colour":1}', '{"image":"a","name":"-"}'])
def test_json_that_is_no_spec_is_refused(text):
    with pytest.raises(SpecError):
        ContainerSpec.from_json(text)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("volume", "volumes"),
        ("environment", "env"),
        ("mem_limit", "memory"),
        ("hostnam", "hostname"),
        ("cap_ad", "cap_add"),
    ],
)
def test_an_unknown_option_is_refused_with_a_suggestion(wrong, right):
    error = refused(**{wrong: "x"})
    assert error.option == wrong
    assert repr(right) in error.remedy


def test_image_and_command_are_no_options():
    assert refused(image="x").option == "image"
    assert isinstance(refused(zzzzzz=1), ValueError)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("name", value) for value in ("", "a", "-a", "a b", "a/b", "a\n", "é1", 5)),
        *(("hostname", value) for value in ("", "-a", "a-", "a_b", "a..b", "a.", "x" * 65, "a" * 64, "a\n", 1)),
        *(
            ("env", value)
            for value in ({"": "x"}, {"A=B": "x"}, ["=x"], {"A": "\0"}, {"A\0": "x"}, {"A": True}, {"A": b"x"}, 5)
        ),
        *(("workdir", value) for value in ("", "srv", "../x", "/srv/../etc", "/a\0b", 5, b"/x")),
        *(
            ("user", value)
            for value in (-1, 2**31, 2**32, "-1", "a:b:c", ":", "a:", ":0", "a b", "a\nb", "0:4294967296", "٣", True)
        ),
        *(("entrypoint", value) for value in (["a\0"], [1], b"sh", 5, "'open", {"a": 1})),
        *(("labels", value) for value in ({"": "x"}, {"a": 1}, {1: "a"}, 5)),
        *(("read_only", value) for value in (1, "yes", "false")),
        *(
            ("ports", value)
            for value in ({0: 0}, {65536: 0}, {80: 65536}, {80: -1}, {"80/xtp": 0}, {"a": 0}, {80: ("x", 1)})
        ),
        *(("ports", value) for value in (["1:2:3:4"], {80: (1,)}, {80: True}, 70000)),
        *(("network", value) for value in ("", "a b", "-x", 5)),
        *(("ip", value) for value in ("", "x", "fd00::1", "10.5.0.0/24", True)),
        *(("ip6", value) for value in ("10.5.0.9", "fd00::1%eth0", "::/64")),
        *(("expose", value) for value in (0, "80/sctpx", "90-80", "a", True, 70000)),
        *(("dns", value) for value in ("x", ["1.2.3"], ["1.2.3.4\n"])),
        *(("dns_search", value) for value in ("a b", ["a", "."], ["a\nnameserver 192.0.2.1"], 5)),
        *(("dns_opt", value) for value in ("ndots: 2", ["edns0\n"], ["a b"], 5)),
        *(
            ("extra_hosts", value)
            for value in (["x"], {"a b": "1.2.3.4"}, {"a\nb": "1.2.3.4"}, {"a": "1.2.3.4\n6.6.6.6 b"})
        ),
        *((option, value) for option in ("memory", "shm_size") for value in ("x", -1, 1.5, True, "1 m b")),
        *(("shm_size", value) for value in (0, "0", "0m")),
        *(("cpus", value) for value in (0, -1, "1", float("nan"), float("inf"), True)),
        *(("cpu_shares", value) for value in (1, 262145, "2")),
        *(("cpuset", value) for value in ("", "a", "1-", "1,,2", 0)),
        *(("pids_limit", value) for value in (-2, 2**31, "5")),
        *(("io_weight", value) for value in (9, 1001)),
        *(("oom_score_adj", value) for value in (-1001, 1001)),
        *(
            ("ulimits", value)
            for value in ({"nofiles": 1}, {"nofile": -2}, {"nofile": (2, 1)}, {"nofile": (-1, 5)}, {"nofile": "a"})
        ),
        *(
            ("ulimits", value)
            for value in ({"nofile": (1, 2, 3)}, {"nofile": 1.5}, {"nofile": None}, ["nofile"], {"nofile": 2**63})
        ),
        *(("cap_add", value) for value in (["NET_ADMINN"], ["CAP_"], [""], {"a": 1}, 5)),
        *(
            ("devices", value)
            for value in (["fuse"], ["/dev/fuse:/dev/fuse:x"], ["/dev/a:b"], [5], ["/dev/a:/../b"], ["/a:/b:r:w"])
        ),
        *(
            ("sysctls", value)
            for value in ({"kernel.panic": 1}, {"vm.swappiness": 1}, {"kernel.hostname": "x"}, {"": 1})
        ),
        *(
            ("sysctls", value)
            for value in ({"net.a": "1\nkernel.panic=1"}, {"net.a": ""}, {"net.a": "a\0b"}, {"net.a": True})
        ),
        *(
            ("sysctls", value)
            for value in ({"net..a": 1}, {"net/../kernel/panic": 1}, {"net/./a": 1}, {"/net/a": 1}, {"net.a\nb": 1})
        ),
        *(("stop_signal", value) for value in ("", "NOPE", 0, 65, -9, True, "RTMIN+99", "RTMIN-1")),
        *(("stop_timeout", value) for value in (-1, "x", True)),
        *(("restart", value) for value in ("sometimes", "on-failure:x")),
        *(("pull", value) for value in ("maybe", True)),
        *(("platform", value) for value in ("linux", "linux/", 5)),
        *(
            ("tmpfs", value)
            for value in ({"t": ""}, {"/": ""}, {"/t": "size=x"}, {"/t": "size=64m,loop"}, {"/t": 5}, ["/a/../b"])
        ),
        *(
            ("volumes", value)
            for value in ({"/h": "in"}, {"/h": "/"}, {"/h": "/a/../b"}, {"/h": "/in:rx"}, {"/h": "/proc/x"})
        ),
        *(
            ("volumes", value)
            for value in ({"/h": "/proc"}, {"/h": "//proc/"}, {"~/x": "/in"}, {"/h\0": "/in"}, ["/a:/b:ro:x"], "/h")
        ),
        *(("volumes", value) for value in ({"/h": {"target": "/in"}}, {"/h": {"bind": "/in", "mod": "ro"}})),
        *(
            ("mounts", value)
            for value in (["type=bind,source=/h"], ["type=nfs,target=/x"], [{"type": "bind", "src": "/h"}], [5])
        ),
        *(
            ("mounts", value)
            for value in (["type=bind,target=/x"], ["type=tmpfs,source=a,target=/x"], ["target=/x,readonly=maybe"])
        ),
        *(("mounts", value) for value in ([{"type": "bind", "source": "/h", "target": "/x", "colour": 1}], ["colour"])),
        *(("mounts", value) for value in ([{"type": "bind", "source": "/h", "target": "/x", "read_only": "no"}],)),
    ],
)
def test_what_cannot_be_is_refused(option, value):
    error = refused(**{option: value})
    assert error.option in (option, "mounts")
    assert error.remedy


@pytest.mark.parametrize("command", [["a\0b"], [1], {"a": 1}, b"x", 5, "'open"])
def test_commands_that_cannot_be(command):
    with pytest.raises(SpecError) as caught:
        ContainerSpec.from_options("host", command, {})
    assert caught.value.option == "command"


@pytest.mark.parametrize("image", ["", "a\0", 5])
def test_images_that_cannot_be(image):
    with pytest.raises(SpecError):
        ContainerSpec.from_options(image, None, {})


def test_two_mounts_on_one_target_are_refused():
    assert refused(volumes={"/a": "/x"}, tmpfs=["/x/"]).value == "/x"


@pytest.mark.parametrize(
    ("given", "mount"),
    [
        ({"data": "/data"}, {"source": "data"}),
        (["data:/data:ro"], {"source": "data", "read_only": True}),
        (["data:/data:ro,nocopy"], {"source": "data", "read_only": True, "nocopy": True}),
        (["/data"], {}),
        ({"data": {"bind": "/data", "mode": "rw"}}, {"source": "data"}),
        (["type=volume,source=data,target=/data"], {"source": "data"}),
        (
            ["type=volume,src=data,dst=/data,volume-nocopy=true,readonly"],
            {"source": "data", "read_only": True, "nocopy": True},
        ),
        (["source=data,target=/data,volume-driver=local"], {"source": "data"}),
        ([{"source": "data", "target": "/data", "no_copy": True}], {"source": "data", "nocopy": True}),
        (
            ["type=volume,src=data,dst=/data,volume-subpath=a//b/"],
            {"source": "data", "subpath": "a/b", "nocopy": True},
        ),
    ],
)
def test_volumes_by_name_and_without(given, mount):
    option = "mounts" if isinstance(given, list) and (isinstance(given[0], dict) or "=" in given[0]) else "volumes"
    made = spec(**{option: given})
    assert made.filesystems() == (Mount(type="volume", target="/data", **mount),)
    assert ContainerSpec.from_json(made.to_json()) == made


@pytest.mark.parametrize("name", ["a", "-a", "_a", "a/b", "a b", "a" * 256, "a\0"])
def test_what_cannot_be_the_name_of_a_volume(name):
    assert refused(mounts=[{"type": "volume", "source": name, "target": "/data"}]).value == name


def test_mount_options_that_are_not_carried_out():
    for volumes in ({"/h": "/in:U"}, {"/h": "/in:rshared"}, {"/h": "/in:shared"}):
        with pytest.raises(UnsupportedError):
            spec(volumes=volumes)
    for word in ("bind-recursive=writable", "volume-opt=type=nfs", "volume-driver=nfs"):
        with pytest.raises(UnsupportedError, match=word.partition("=")[0]):
            spec(mounts=[f"type=bind,source=/h,target=/in,{word}"])


def test_labels_of_selinux_mean_nothing_where_there_are_none(monkeypatch):
    there = False
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: there if "selinux" in os.fspath(path) else exists(path))
    for word in ("z", "Z"):
        assert spec(volumes={"/h": f"/in:{word},ro"}).volumes[0].read_only
    there = True
    for word in ("z", "Z"):
        with pytest.raises(UnsupportedError, match="chcon"):
            spec(volumes={"/h": f"/in:{word}"})


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("rslave", {"propagation": "rslave"}),
        ("slave,ro", {"propagation": "slave", "read_only": True}),
        ("private", {"propagation": "private"}),
        ("rprivate,rbind,consistent,cached,delegated", {}),
        ("bind", {"recursive": False}),
        ("idmap", {"idmap": True}),
        ("noidmap", {"idmap": False}),
    ],
)
def test_words_of_a_bind(words, fields):
    assert spec(volumes=[f"/h:/in:{words}"]).volumes == (Mount(type="bind", source="/h", target="/in", **fields),)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("bind-propagation=rslave", {"propagation": "rslave"}),
        ("bind-nonrecursive", {"recursive": False}),
        ("bind-nonrecursive=false", {}),
        ("bind-recursive=disabled", {"recursive": False}),
        ("bind-recursive=enabled", {}),
        ("bind-recursive=readonly,readonly", {"read_only": True}),
        ("recursive=false,nosuid,noexec", {"recursive": False, "nosuid": True, "noexec": True}),
        ("idmap", {"idmap": True}),
        ("idmap=false", {"idmap": False}),
        ("consistency=cached", {}),
    ],
)
def test_keys_of_a_bind(words, fields):
    wanted = Mount(type="bind", source="/h", target="/in", **fields)
    made = spec(mounts=[f"type=bind,source=/h,target=/in,{words}"])
    assert made.mounts == (wanted,)
    assert spec(mounts=[{"type": "bind", "source": "/h", "target": "/in", **fields}]).mounts == (wanted,)
    assert ContainerSpec.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "mount",
    [
        {"type": "bind", "source": "/h", "propagation": "sideways"},
        {"type": "bind", "source": "/h", "propagation": 5},
        {"type": "bind", "source": "/h", "idmap": "no"},
        {"type": "bind", "source": "/h", "recursive": None},
        {"type": "bind", "source": "/h", "nocopy": True},
        {"type": "tmpfs", "propagation": "rslave"},
        {"type": "tmpfs", "recursive": False},
        {"type": "tmpfs", "idmap": True},
        {"type": "tmpfs", "nocopy": True},
        {"type": "bind", "source": "/h", "subpath": "a"},
        {"type": "volume", "subpath": "a"},
        {"type": "volume", "source": "data", "subpath": "a/../../b"},
        {"type": "volume", "source": "data", "subpath": "/a"},
        {"type": "volume", "source": "data", "subpath": 3},
    ],
)
def test_fields_that_another_type_has(mount):
    assert refused(mounts=[{"target": "/in", **mount}]).option == "mounts"


def test_shared_mounts_need_the_hosts_user_namespace():
    for options in ({"userns": "host"}, {"privileged": True}):
        assert spec(volumes={"/h": "/in:rshared"}, **options).volumes[0].is_shared


def test_on_the_hosts_network_its_sysctls_are_the_hosts():
    assert refused(network="host", sysctls={"net.ipv4.ip_forward": 1}).option == "sysctls"
    assert spec(network="host", sysctls={"kernel.sem": "1 2 3 4"}).sysctls == {"kernel.sem": "1 2 3 4"}


# -- the forms in which things are given -------------------------------------------------------------------------------


def test_a_command_as_text_is_cut_as_a_shell_would():
    assert ContainerSpec.from_options("host", "echo 'a b' $HOME", {}).command == ("echo", "a b", "$HOME")
    assert ContainerSpec.from_options("host", [pathlib.Path("/bin/x"), b"\xff"], {}).command == ("/bin/x", "\udcff")
    made = ContainerSpec.from_options("host", ["\udcff"], {})
    assert ContainerSpec.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("entrypoint", "command", "argv"),
    [
        (None, None, ("ie", "ic")),
        (None, ["c"], ("ie", "c")),
        (None, [], ("ie",)),
        ("e", None, ("e",)),
        ("e", ["c"], ("e", "c")),
        ("", ["c"], ("c",)),
        ([], None, ()),
    ],
)
def test_what_is_executed_follows_docker(entrypoint, command, argv):
    made = ContainerSpec.from_options("host", command, {"entrypoint": entrypoint})
    assert made.argv(["ie"], ["ic"]) == argv


def test_an_image_without_anything_gives_nothing_to_execute():
    assert ContainerSpec.from_options("host", None, {}).argv(None, None) == ()


def test_variables_without_a_value_are_inherited(monkeypatch):
    monkeypatch.setenv("HAVE", "x")
    monkeypatch.delenv("HAVE_NOT", raising=False)
    assert spec(env=["HAVE", "HAVE_NOT"]).env == {"HAVE": "x"}
    assert spec(env={"HAVE": None, "N": 1}).env == {"HAVE": "x", "N": "1"}


def test_env_files_are_read_once_and_yield_to_env(tmp_path, monkeypatch):
    monkeypatch.setenv("HAVE", "x")
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text('\ufeff# c\n\n  A=1\nQ="q" # no comment\nHAVE\nHAVE_NOT\r\nE=\n')
    two.write_text("A=2\nB=2\n")
    made = spec(env_file=[one, str(two)], env={"B": "3"})
    assert made.env == {"A": "2", "Q": '"q" # no comment', "HAVE": "x", "E": "", "B": "3"}
    assert made.env_file == ()
    one.unlink()
    assert ContainerSpec.from_json(made.to_json()) == made


@pytest.mark.parametrize("content", [b"A B=1\n", b"ok=1\n=x\n", b"A=\xff\n", b"A=a\0b\n"])
def test_bad_env_files_are_refused(tmp_path, content):
    path = tmp_path / "env"
    path.write_bytes(content)
    assert refused(env_file=path).option == "env_file"


def test_a_missing_env_file_is_named(tmp_path):
    with pytest.raises(SpecError, match="No such file") as caught:
        read_env_file(tmp_path / "none")
    assert str(tmp_path / "none") in str(caught.value)


def test_volumes_take_dockers_and_docker_pys_forms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = (Mount(type="bind", source="/h", target="/in", read_only=True),)
    assert spec(volumes={"/h": "/in:ro"}).volumes == wanted
    assert spec(volumes={pathlib.Path("/h/"): "/in/:ro"}).volumes == wanted
    assert spec(volumes={"/h": {"bind": "/in", "mode": "ro"}}).volumes == wanted
    assert spec(volumes=["/h:/in:ro"]).volumes == wanted
    assert spec(volumes={"./x": "/in:ro,noexec,rprivate"}).volumes == (
        Mount(type="bind", source=os.fspath(tmp_path / "x"), target="/in", read_only=True, noexec=True),
    )


def test_a_tmpfs_is_closed_unless_opened():
    (mount,) = spec(tmpfs="/t").tmpfs
    assert (mount.nosuid, mount.nodev, mount.noexec, mount.read_only, mount.data) == (True, True, True, False, "")
    (mount,) = spec(tmpfs=["/t:exec,size=50%,mode=700"]).tmpfs
    assert (mount.noexec, mount.data) == (False, "size=50%,mode=700")
    (mount,) = spec(mounts=["type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770"]).mounts
    assert mount.data == "size=1048576,mode=1770"


def test_file_systems_come_parents_first():
    made = spec(mounts=["type=bind,source=/h,target=/a/b/c"], volumes={"/h": "/a"}, tmpfs=["/a/b"])
    assert [mount.target for mount in made.filesystems()] == ["/a", "/a/b", "/a/b/c"]


@pytest.mark.parametrize(
    ("given", "ports"),
    [
        ({6379: 0}, (Port(6379),)),
        ({"53/udp": ("127.0.0.1", 5353)}, (Port(53, "udp", "127.0.0.1", 5353),)),
        ({80: ("127.0.0.1",), 81: [("::1",)]}, (Port(80, host="127.0.0.1"), Port(81, host="::1"))),
        ({80: None, 443: "8443"}, (Port(80), Port(443, port=8443))),
        ({80: [8080, "[::1]:8081"]}, (Port(80, port=8080), Port(80, host="::1", port=8081))),
        (["8080:80", "127.0.0.1:53:53/udp", "9"], (Port(80, port=8080), Port(53, "udp", "127.0.0.1", 53), Port(9))),
        ([Port(1)], (Port(1),)),
        (80, (Port(80),)),
        ({"8000-8002/udp": "9000-9002"}, tuple(Port(8000 + n, "udp", port=9000 + n) for n in range(3))),
        (["127.0.0.1:9000-9001:8000-8001"], tuple(Port(8000 + n, "tcp", "127.0.0.1", 9000 + n) for n in range(2))),
        (["8000-8001"], (Port(8000), Port(8001))),
        (["127.0.0.1::80", "[::1]::80/udp"], (Port(80, host="127.0.0.1"), Port(80, "udp", "::1"))),
        ({80: "9000-9010"}, (Port(80, port=9000, last=9010),)),
        (["::1:9000-9010:80"], (Port(80, host="::1", port=9000, last=9010),)),
    ],
)
def test_ports_have_one_normal_form(given, ports):
    assert NORMAL["ports"]("ports", given) == ports
    assert NORMAL["ports"]("ports", [attrs.asdict(port) for port in ports]) == ports


@pytest.mark.parametrize(
    ("given", "device"),
    [
        ("/dev/a", Device("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", Device("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:/dev/b:r", Device("/dev/a", "/dev/b", "r")),
        ("/dev/a:rw", Device("/dev/a", "/dev/a", "rw")),
    ],
)
def test_devices_take_dockers_forms(given, device):
    assert spec(devices=[given]).devices == (device,)


def test_ulimits_take_dockers_forms():
    wanted = {"nofile": (1024, 2048), "core": (-1, -1)}
    assert spec(ulimits=["nofile=1024:2048", "core=unlimited"]).ulimits == wanted
    assert spec(ulimits={"RLIMIT_NOFILE": {"soft": 1024, "hard": 2048}, "core": -1}).ulimits == wanted


def test_sysctls_by_dots_and_slashes():
    assert sysctl_path("net.ipv4.conf.eth0/100.forwarding") == "net/ipv4/conf/eth0.100/forwarding"
    assert sysctl_path("net/ipv4/conf/eth0.100/forwarding") == "net/ipv4/conf/eth0.100/forwarding"


@pytest.mark.parametrize(
    ("given", "number", "name"),
    [
        (15, 15, "SIGTERM"),
        ("term", 15, "SIGTERM"),
        ("SIGINT", 2, "SIGINT"),
        ("9", 9, "SIGKILL"),
        ("RTMIN+3", 37, "SIGRTMIN+3"),
        ("RTMAX", 64, "SIGRTMAX"),
    ],
)
def test_signals_by_name_and_number(given, number, name):
    assert signal_number(given) == number
    assert signal_name(number) == name
    assert spec(stop_signal=given).stop_signal == name
    assert signal_number(name) == number


# -- capabilities ------------------------------------------------------------------------------------------------------


def test_capabilities_bear_the_kernels_numbers():
    assert len(DEFAULT_CAPABILITIES) == 14
    assert {
        name: CAPABILITIES.index(name) for name in ("CHOWN", "NET_RAW", "SYS_ADMIN", "SETFCAP", "CHECKPOINT_RESTORE")
    } == {
        "CHOWN": 0,
        "NET_RAW": 13,
        "SYS_ADMIN": 21,
        "SETFCAP": 31,
        "CHECKPOINT_RESTORE": 40,
    }
    assert spec().capability_mask() == 0xA80425FB  # what docker's containers show as CapBnd


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, DEFAULT_CAPABILITIES),
        ({"cap_drop": ["ALL"]}, set()),
        ({"cap_drop": ["ALL"], "cap_add": ["KILL"]}, {"KILL"}),
        ({"cap_add": ["ALL"]}, set(CAPABILITIES)),
        ({"cap_add": ["ALL"], "cap_drop": ["KILL"]}, set(CAPABILITIES) - {"KILL"}),
        ({"cap_add": ["SYS_PTRACE"], "cap_drop": ["KILL"]}, (DEFAULT_CAPABILITIES | {"SYS_PTRACE"}) - {"KILL"}),
        ({"privileged": True, "cap_drop": ["ALL"]}, set(CAPABILITIES)),
    ],
)
def test_capabilities_add_up_as_in_docker(options, kept):
    assert spec(**options).capabilities() == kept


def test_a_mistyped_capability_gets_a_suggestion():
    assert "'NET_ADMIN'" in refused(cap_add=["CAP_NETADMIN"]).remedy


# -- whatever is given -------------------------------------------------------------------------------------------------

JUNK = (
    0,
    -1,
    5,
    2**200,
    1.5,
    float("nan"),
    True,
    b"x",
    "",
    "x",
    "a" * 5000,
    "9" * 5000,
    "\0",
    "\udcff",
    ":",
    "=",
    "/",
    ",",
    "a=b",
    "/a:/b:/c:/d",
    [],
    [None],
    [5],
    [b"x"],
    [""],
    [[]],
    [{}],
    ["9" * 5000],
    ["a=" + "9" * 5000],
    {},
    {"": ""},
    {5: 5},
    {None: None},
    {"a": None},
    {"a": 5},
    {"a": []},
    {"a": {}},
    {"a": (5, 80)},
    {80: (5, 80)},
    {80: ("x",)},
    {80: [[]]},
    {"/a": 5},
    {b"/a": "/b"},
    {"nofile": "9" * 5000},
    {"nofile": [[], {}]},
    {"nofile": {}},
    [{"source": 5}],
    [{"source": "/a", "target": 5, "permissions": 5}],
    [{"container": 5, "protocol": 5, "host": 5, "port": 5}],
    [{"type": 5, "target": 5}],
    [{"type": "bind", "source": 5, "target": "/x"}],
    object(),
    (),
    set(),
    {"a"},
)


@pytest.mark.parametrize("option", sorted(NORMAL))
def test_nothing_that_is_given_gets_past_the_two_errors(option):
    for junk in JUNK:
        try:
            made = attrs.evolve(ContainerSpec(image="host"), **{option: junk})
        except (SpecError, UnsupportedError) as error:
            assert option in str(error) or "mount" in str(error)  # noqa: PT017
        else:
            assert ContainerSpec.from_json(made.to_json()) == made


def test_an_empty_mapping_that_was_given_stays_the_callers():
    given: dict[str, str] = {}
    made = ContainerSpec(image="host", env=given, labels=given)
    given["A"] = "changed"
    assert (made.env, made.labels) == ({}, {})


def test_the_network_that_nobody_names_is_settled_later():
    assert spec().network == spec(network=None).network == "default"
    assert ContainerSpec.from_json(spec().to_json()) == spec()
    assert ContainerSpec.from_json('{"image":"x"}').network == "none"  # as in stores of before
    assert spec(aliases=["db"], extra_hosts={"up": "host-gateway"}).networks() == ("default",)
    assert refused(network=["lab", "default"]).option == "network"
