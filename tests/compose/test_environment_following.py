"""What an environment writes, what happens to it, what changes in its sources; and all of that on an event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
from boxes import await_true
from composing import ids, load, names
from ownnet import host

import pylxc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from composing import Load

pytestmark = pytest.mark.root
__all__ = ["host", "load"]

TALKING = """
    services:
      a: {image: busybox, command: sh -c 'echo one; echo two >&2; exec sleep 1000', stop_grace_period: 0s}
      b: {image: busybox, command: sh -c 'echo three; exec sleep 1000', stop_grace_period: 0s, depends_on: [a]}
"""


def lines_of(environment: pylxc.Environment, *services: str, **options) -> list[tuple[str, str, str]]:
    return [(one.service, one.container, one.log.text) for one in environment.logs(*services, **options)]


def test_logs_are_merged_by_time(load: Load) -> None:
    environment = load(TALKING)
    environment.up()
    await_true(lambda: len(lines_of(environment)) == 3, "three lines")
    found = lines_of(environment)
    assert sorted(found[:2]) == [("a", "shop-a-1", "one\n"), ("a", "shop-a-1", "two\n")]
    assert found[2] == ("b", "shop-b-1", "three\n")
    assert lines_of(environment, "b") == found[2:]
    assert len(lines_of(environment, tail=1)) == 2
    assert lines_of(environment, since=time.time()) == []
    assert all(one.log.text[:2] == "20" for one in environment.logs(timestamps=True))


def test_following_sees_what_starts_meanwhile_and_ends_with_the_last(load: Load) -> None:
    environment = load(TALKING)
    environment.up("a")
    await_true(lambda: len(lines_of(environment)) == 2, "two lines")
    seen: list[str] = []

    def work() -> None:
        try:
            await_true(lambda: "two\n" in seen, "the log to be followed")
            environment.up("b")
            await_true(lambda: "three\n" in seen, "the new one's line")
            environment.restart("a")
            await_true(lambda: seen.count("one\n") == 2, "the line of the one that started again")
        finally:
            environment.stop()

    thread = threading.Thread(target=work)
    thread.start()
    for line in environment.logs(follow=True):
        seen.append(line.log.text)  # noqa: PERF401  others look at it meanwhile
    thread.join()
    assert sorted(seen) == ["one\n", "one\n", "three\n", "two\n", "two\n"]


def test_events_are_those_of_the_project(load: Load, engine: pylxc.Engine) -> None:
    environment = load(TALKING)
    environment.up()
    pylxc.run("busybox", ["true"], name="somebody-else", network="none", engine=engine)
    found = [(one.name, one.kind) for one in environment.events(follow=False)]
    assert ("shop-a-1", "started") in found
    assert {name for name, _ in found} == {"shop-a-1", "shop-b-1"}
    assert {one.name for one in environment.events("b", follow=False)} == {"shop-b-1"}
    environment.down()
    assert ("shop-a-1", "removed") in [(one.name, one.kind) for one in environment.events(follow=False)]


# -- watch -------------------------------------------------------------------------------------------------------------

WATCHED = """
    services:
      web:
        build: .
        command: sh -c 'echo started >>/starts; exec sleep 1000'
        stop_grace_period: 0s
        develop:
          watch:
            - {path: src, target: /src, action: sync, ignore: ["*.tmp"]}
            - {path: conf, target: /conf, action: sync+restart}
            - {path: Dockerfile, action: rebuild}
            - {path: run, target: /run, action: sync+exec, exec: {command: sh -c 'touch /executed'}}
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    directory = tmp_path / "shop"
    for name in ("src/deep", "conf", "run"):
        (directory / name).mkdir(parents=True)
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY src /src\nCOPY conf /conf\n")
    (directory / "src/page").write_text("one")
    (directory / "conf/c").write_text("one")
    return directory


def watching(environment: pylxc.Environment, work: Callable[[list[pylxc.Synced]], object]) -> list[pylxc.Synced]:
    """Watch for as long as ``work``, which is given what has been done so far, goes on; return all that was done."""
    seen: list[pylxc.Synced] = []
    stream = environment.watch(up=False)
    begun = threading.Event()
    ended = threading.Event()

    def follow() -> None:
        begun.set()
        for one in stream:
            seen.append(one)
            if ended.is_set():
                return

    thread = threading.Thread(target=follow)
    thread.start()
    begun.wait()
    time.sleep(0.2)  # the watch is set up within the thread: what comes before it is not a change
    try:
        work(seen)
    finally:
        ended.set()
        (environment.files[0].parent / "src/last").write_text("last")
        thread.join()
    return seen


def test_watch_brings_changes_in(load: Load, sources: Path) -> None:
    environment = load(WATCHED)
    environment.up()
    before = ids(environment)

    def inside(path: str) -> str:
        try:
            return environment.exec("web", ["cat", path], check=False).text
        except (pylxc.Conflict, pylxc.ContainerNotFound):  # it is just being started again, or made anew
            return ""

    def work(seen: list[pylxc.Synced]) -> None:
        (sources / "src/page").write_text("two")
        (sources / "src/deep/new").write_text("new")
        (sources / "src/not.tmp").write_text("no")
        await_true(lambda: (inside("/src/page"), inside("/src/deep/new")) == ("two", "new"), "the new files")
        assert inside("/src/not.tmp") == ""
        (sources / "src/page").unlink()
        await_true(lambda: inside("/src/page") == "", "the file to be gone")
        (sources / "run/x").write_text("x")
        await_true(lambda: environment.exec("web", ["test", "-e", "/executed"], check=False).ok, "the command")
        (sources / "conf/c").write_text("two")
        await_true(lambda: inside("/starts") == "started\nstarted\n", "the restart")
        assert inside("/conf/c") == "two"
        assert ids(environment) == before
        (sources / "Dockerfile").write_text("FROM busybox\nCOPY src /src\nRUN echo built >/built\n")
        await_true(lambda: any(one.action == "rebuild" for one in seen), "the build")
        assert inside("/built") == "built\n"

    seen = watching(environment, work)
    assert [one.error for one in seen] == [None] * len(seen)
    assert {one.action for one in seen} == {"sync", "sync+restart", "sync+exec", "rebuild"}
    assert all(not path.endswith(".tmp") for one in seen for path in one.paths)


def test_a_link_in_the_sources_is_a_link_in_the_container(load: Load, sources: Path, tmp_path: Path) -> None:
    environment = load(WATCHED)
    environment.up()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/key").write_text("a key of theirs")

    def work(_: list[pylxc.Synced]) -> None:
        (sources / "src/link").symlink_to(tmp_path / "outside")
        (sources / "src/file").symlink_to(tmp_path / "outside/key")
        await_true(lambda: environment.exec("web", ["readlink", "/src/file"], check=False).ok, "the link")

    watching(environment, work)
    assert (
        "a key of theirs" not in environment.exec("web", ["sh", "-c", "cat /src/file /src/link/key"], check=False).text
    )


def test_watch_without_anything_to_watch_says_so(load: Load) -> None:
    with pytest.raises(pylxc.SpecError, match=r"develop\.watch"):
        next(load(TALKING).watch())


# -- on an event loop --------------------------------------------------------------------------------------------------


def test_an_environment_on_an_event_loop(load: Load) -> None:
    environment = load(TALKING)

    async def main() -> None:
        async with pylxc.aio.Environment(environment) as shop:
            assert names(await shop.up()) == ["shop-a-1", "shop-b-1"]
            assert (await shop.exec("a", ["echo", "here"])).text == "here\n"
            async for line in shop.logs(follow=True):
                if line.log.text == "three\n":
                    break
            await shop.stop("b")
            assert names(await shop.ps()) == ["shop-a-1"]
            assert (await shop.run("b", ["echo", "beside"])).text == "beside\n"

    asyncio.run(main())
    assert environment.ps(all=True) == []


def test_a_cancelled_up_is_undone(load: Load, engine: pylxc.Engine) -> None:
    environment = load("""
        services:
          web: {image: busybox, command: sleep 1000, depends_on: {never: {condition: service_healthy}}}
          never:
            image: busybox
            command: sleep 1000
            stop_grace_period: 0s
            healthcheck: {test: "false", start_period: 1000s, start_interval: 50ms}
    """)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pylxc.aio.Environment(environment).up(), timeout=1)

    asyncio.run(main())
    assert environment.ps(all=True) == []
    assert pylxc.Network.list(engine=engine) == []
