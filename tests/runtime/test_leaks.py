"""Many starts leave as much as none: descriptors, processes, mounts, directories; and their output is right."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from boxes import NOTHING, await_true, children, descriptors, entries, monitors, mounts

import pylxc
from pylxc.runtime import kept


@pytest.fixture
def balance(box):
    """What there is before must be what there is after, exactly."""
    kept.collect()  # what an earlier test started and another process ended: the next start would reap it
    before = (descriptors(), children(), mounts(), monitors())
    yield box
    assert entries(box.engine) == NOTHING
    assert (descriptors(), children(), mounts()) == before[:3]
    await_true(lambda: monitors() <= before[3], "the end of every monitor")
    assert threading.active_count() == 1


@pytest.mark.parametrize("image", ["busybox", "host"])
def test_200_runs_in_a_row(balance, image):
    balance.run("true", image=image)
    for number in range(200 if image == "busybox" else 50):
        assert balance.run("echo", f"{number}", image=image).stdout == b"%d\n" % number


def test_50_runs_in_8_threads(balance):
    def one(number: int) -> tuple[int, bytes, bytes]:
        data = b"%d " % number * 1000
        result = balance.sh(f"cat; echo {number} >&2; exit {number}", input=data, check=False)
        return result.exit_code, result.stdout, result.stderr

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(50)))
    assert results == [(n, b"%d " % n * 1000, b"%d\n" % n) for n in range(50)]


def test_containers_and_execs_in_threads(balance):
    def one(number: int) -> bytes:
        with balance.start("sleep", "100", name=f"thread-{number}") as container:
            return b"".join(container.exec(["echo", f"{number}.{n}"]).stdout for n in range(5))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(one, range(24)))
    assert results == [b"".join(b"%d.%d\n" % (n, k) for k in range(5)) for n in range(24)]


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("exec", {"entrypoint": ["/no/such"]}),
        ("user", {"user": "nobody-knows"}),
        ("workdir", {"workdir": "/etc/passwd"}),
        ("mount", {"volumes": {"/no/such/source": "/in"}}),
        ("sysctl", {"sysctls": {"net.no_such": "1"}}),
    ],
)
def test_starts_that_fail(balance, stage, options):
    for verb in (balance.run, balance.start, balance.popen):
        for _ in range(5):
            with pytest.raises(pylxc.SpawnError) as caught:
                verb("true", **options)
            assert caught.value.stage == stage
            caught = None


def test_timeouts_errors_and_callbacks_that_raise(balance):
    def explode(*_):
        raise ZeroDivisionError

    for _ in range(5):
        for error, options in ((pylxc.TimeoutExpired, {"timeout": 0.01}), (ZeroDivisionError, {"on_output": explode})):
            with pytest.raises(error):
                balance.sh("echo x; sleep 100", **options)
        with pytest.raises(pylxc.ExitError):
            balance.run("false")
