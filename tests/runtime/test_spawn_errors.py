"""A start that fails names its stage, its subject and its errno, and leaves nothing behind."""

from __future__ import annotations

import errno
import gc
import shutil
from pathlib import Path

import pytest
from boxes import NOTHING, children, descriptors, entries, mounts

import pylxc


def failure(box, *words, **options) -> pylxc.SpawnError:
    """Return the SpawnError of a start that must fail, having checked that nothing of it is left."""
    gc.collect()
    before = (descriptors().keys(), children(), mounts())
    with pytest.raises(pylxc.SpawnError) as caught:
        box.run(*(words or ("true",)), **options)
    assert pylxc.Container.list(all=True, engine=box.engine) == []
    assert entries(box.engine) == NOTHING
    assert (descriptors().keys(), children(), mounts()) == before
    return caught.value


def test_a_program_that_is_not_there(box):
    for words in (("no-such-program",), ("/no/such/program",), ("/bin/busybox/x",)):
        error = failure(box, *words)
        assert (error.stage, error.exit_code) == ("exec", 127)
        assert error.errno in (errno.ENOENT, errno.ENOTDIR)
        assert words[0] in str(error)


@pytest.mark.parametrize(("program", "number"), [("/etc", errno.EACCES), ("/etc/passwd", errno.EACCES)])
def test_a_program_that_cannot_be_executed(box, program, number):
    error = failure(box, program)
    assert (error.stage, error.errno, error.exit_code) == ("exec", number, 126)


def test_a_program_in_no_format(box, tmp_path):
    (tmp_path / "junk").write_bytes(b"\0\1\2junk")
    (tmp_path / "junk").chmod(0o755)
    error = failure(box, "/junk", volumes={tmp_path / "junk": "/junk"})
    assert (error.stage, error.errno, error.exit_code) == ("exec", errno.ENOEXEC, 126)


def test_a_script_without_its_interpreter(box, tmp_path):
    (tmp_path / "script").write_text("#!/no/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    assert failure(box, "/script", volumes={tmp_path / "script": "/script"}).exit_code == 127


def test_a_program_that_is_found_but_not_executable_is_not_called_missing(box):
    error = failure(box, "passwd", env={"PATH": "/no/such:/etc:/tmp"})
    assert (error.errno, error.exit_code) == (errno.EACCES, 126)


def test_a_missing_root(engine, tmp_path):
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/nothing").write_text("of interest")
    image = pylxc.Image.from_directory(tmp_path / "tree", "lost", engine=engine)
    digest = image.layers[0].digest.removeprefix("sha256:")
    shutil.rmtree(engine.root / "layers" / digest)
    with pytest.raises(pylxc.StoreError, match="its tree is not there") as caught:
        pylxc.run("lost", ["/bin/nothing"], engine=engine)
    assert caught.value.path == str(engine.root / "layers" / digest)
    assert entries(engine) == NOTHING


def test_a_bad_mount_is_named_by_its_number(box, tmp_path):
    (tmp_path / "good").mkdir()
    good = {"type": "bind", "source": str(tmp_path / "good"), "target": "/a/deep/target"}
    bad = {"type": "bind", "source": str(tmp_path / "bad"), "target": "/b"}
    for mounts_given, number in (([good, bad], 1), ([bad, good], 0)):
        error = failure(box, mounts=mounts_given)
        assert (error.stage, error.errno) == ("mount", errno.ENOENT)
        assert error.subject.startswith(f"mounts[{number}]: {tmp_path}/bad on /b")


def test_a_mount_over_a_file_that_is_in_the_way(box, tmp_path):
    error = failure(box, volumes={tmp_path: "/etc/passwd"})
    assert (error.stage, error.errno) == ("mount", errno.ENOTDIR)
    assert "mounts[0]" in error.subject


def test_a_bad_user_and_group(box):
    for user in ("no-such-user", "root:no-such-group"):
        error = failure(box, user=user)
        assert (error.stage, error.errno, error.exit_code) == ("user", errno.ENOENT, 125)
        assert user in error.subject


def test_a_bad_working_directory(box):
    error = failure(box, workdir="/etc/passwd")
    assert (error.stage, error.errno) == ("workdir", errno.ENOTDIR)
    with box.start("sleep", "100") as container:
        with pytest.raises(pylxc.SpawnError) as caught:
            container.exec(["true"], workdir="/not/there")
        assert (caught.value.stage, caught.value.errno) == ("workdir", errno.ENOENT)
        with pytest.raises(pylxc.SpawnError) as caught:
            container.exec(["not-there"])
        assert (caught.value.stage, caught.value.exit_code) == ("exec", 127)
        with pytest.raises(pylxc.SpawnError) as caught:
            container.exec(["true"], user="not-there")
        assert caught.value.stage == "user"


def test_a_sysctl_that_does_not_exist(box):
    error = failure(box, sysctls={"net.ipv4.no_such_thing": "1"})
    assert (error.stage, error.errno) == ("sysctl", errno.ENOENT)
    assert "net.ipv4.no_such_thing" in error.subject


def test_a_sysctl_value_that_the_kernel_refuses(box):
    error = failure(box, sysctls={"net.ipv4.ip_forward": "many"})
    assert (error.stage, error.errno) == ("sysctl", errno.EINVAL)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"hostname": "a b"}, "hostname"),
        ({"hostname": "x" * 65}, "hostname"),
        ({"user": "-1"}, "user"),
        ({"workdir": "relative"}, "workdir"),
        ({"devices": ["/dev/no-such-device"]}, "devices"),
        ({"command": ["a\0b"]}, "command"),
    ],
)
def test_what_can_be_told_beforehand_is_a_spec_error(box, options, field):
    words = options.pop("command", ["true"])
    with pytest.raises(pylxc.SpecError) as caught:
        box.run(*words, **options)
    assert caught.value.option == field


def test_a_directory_in_place_of_a_device(box, tmp_path):
    with pytest.raises((pylxc.SpecError, pylxc.SpawnError)) as caught:
        box.run("true", devices=[f"{tmp_path}:/dev/thing"])
    assert str(tmp_path) in str(caught.value)


@pytest.mark.usefixtures("no_registry")
def test_a_missing_image(box):
    with pytest.raises(pylxc.ImageNotFound, match=r"no-such-image:here.*pulling it failed"):
        box.run("true", image="no-such-image:here")


def test_arguments_beyond_what_the_kernel_takes(box):
    error = failure(box, "echo", "x" * (1 << 18))
    assert (error.stage, error.errno, error.exit_code) == ("exec", errno.E2BIG, 126)


def test_start_and_popen_fail_alike(box):
    for verb in (box.start, box.popen):
        with pytest.raises(pylxc.SpawnError) as caught:
            verb("no-such-program")
        assert (caught.value.stage, caught.value.exit_code) == ("exec", 127)
        assert pylxc.Container.list(all=True, engine=box.engine) == []
    container = box.create("no-such-program")
    with pytest.raises(pylxc.SpawnError):
        container.start()
    assert container.status() == "created"
    container.remove()
    assert not Path(box.engine.container_directory(container.id)).exists()


def test_an_empty_command_in_a_running_container(box):
    with box.start("sleep", "100") as container:
        for call in (container.exec, container.popen):
            with pytest.raises(pylxc.SpecError, match="is empty") as caught:
                call([])
            assert caught.value.option == "command"
