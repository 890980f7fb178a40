"""An environment comes up in order, stays as it is while nothing changes, and is gone after ``down``."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from composing import ids, load, names, starts
from ownnet import host

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

    from composing import Load

pytestmark = pytest.mark.root
__all__ = ["host", "load"]

PAIR = """
    services:
      web:
        image: busybox
        command: sh -c 'mkdir /www; echo $$GREETING >/www/index.html; exec httpd -f -p 80 -h /www'
        environment: {GREETING: hello}
        ports: ["127.0.0.1::80"]
        stop_grace_period: 0s
        depends_on: [db]
      db:
        image: busybox
        command: sleep 1000
        stop_grace_period: 0s
        volumes: ["data:/data", "/scratch"]
    volumes: {data: {}}
"""


def get(environment: pylxc.Environment) -> bytes:
    environment.ps("web")[0].wait_ready(port=80, timeout=20)
    with socket.create_connection(environment.port("web", 80), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.rpartition(b"\r\n\r\n")[2]


def test_up_serves_again_changes_one_and_down_leaves_nothing(load: Load, engine: pylxc.Engine) -> None:
    environment = load(PAIR)
    assert names(environment.up()) == ["shop-db-1", "shop-web-1"]
    assert starts(engine) == ["shop-db-1", "shop-web-1"]
    assert get(environment) == b"hello\n"
    assert environment.exec("web", ["ping", "-c1", "-W5", "db"]).ok
    before = ids(environment)

    environment.up()
    assert ids(environment) == before
    assert len(starts(engine)) == 2

    changed = load(PAIR.replace("hello", "welcome"))
    changed.up()
    after = ids(changed)
    assert after["shop-db-1"] == before["shop-db-1"]
    assert after["shop-web-1"] != before["shop-web-1"]
    assert get(changed) == b"welcome\n"
    assert [one.name for one in pylxc.Network.list(engine=engine)] == ["shop_default"]

    changed.down(timeout=0)
    assert environment.ps(all=True) == []
    assert [one.name for one in pylxc.Volume.list(engine=engine)] == ["shop_data"]
    changed.down(volumes=True)
    assert pylxc.Volume.list(engine=engine) == []


def test_a_changed_service_keeps_its_volumes_and_a_wish_renews_them(load: Load) -> None:
    environment = load(PAIR)
    environment.up("db")
    environment.exec("db", ["sh", "-c", "echo 1 >/data/kept; echo 2 >/scratch/kept"])
    environment.up("db", force_recreate=True)
    assert environment.exec("db", ["cat", "/data/kept", "/scratch/kept"]).text == "1\n2\n"
    before = ids(environment)
    load(PAIR.replace("sleep 1000", "sleep 2000")).up("db", recreate=False)
    assert ids(environment) == before
    environment.up("db", force_recreate=True, renew_volumes=True)
    assert environment.exec("db", ["ls", "/data", "/scratch"]).text == "/data:\nkept\n\n/scratch:\n"


def test_an_image_that_has_changed_makes_the_container_anew(load: Load, engine: pylxc.Engine, tmp_path: Path) -> None:
    (tmp_path / "shop/Dockerfile").write_text("FROM busybox\nCOPY page /page\nCMD sleep 1000\n")
    (tmp_path / "shop/page").write_text("one")
    other = "other: {image: busybox, command: sleep 1000, stop_grace_period: 0s}"
    environment = load(f"services: {{web: {{build: ., stop_grace_period: 0s}}, {other}}}")
    environment.up()
    before = ids(environment)
    (tmp_path / "shop/page").write_text("two")
    environment.up()
    assert ids(environment) == before  # what is there is not built again
    environment.up(build=True)
    after = ids(environment)
    assert (after["shop-web-1"] != before["shop-web-1"], after["shop-other-1"]) == (True, before["shop-other-1"])
    assert environment.exec("web", ["cat", "/page"]).text == "two"
    environment.down(rmi="local")
    assert [image.refs for image in pylxc.Image.list(engine=engine) if "shop" in str(image.refs)] == []


def test_what_a_file_says_of_a_build(load: Load, engine: pylxc.Engine, tmp_path: Path) -> None:
    text = "FROM busybox\nRUN grep -q '192.0.2.7.*db' /etc/hosts && ls /sys/class/net >/links\nCMD sleep 1000\n"
    (tmp_path / "shop/Dockerfile").write_text(text)
    said = "{context: ., labels: {tier: web, commit: 4f2}, extra_hosts: ['db=192.0.2.7'], network: none}"
    environment = load(f"services: {{web: {{build: {said}, stop_grace_period: 0s}}}}")
    environment.up()
    (container,) = environment.ps()
    assert container.image.config.labels == {"tier": "web", "commit": "4f2"}
    assert environment.exec("web", ["cat", "/links"]).text.split() == ["lo"]
    environment.down(rmi="local")


def test_images_are_built_for_another_platform(load: Load, tmp_path: Path) -> None:
    (tmp_path / "shop/Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    environment = load("""
        services:
          a: {platform: linux/s390x, build: .}
          b: {build: {context: ., platforms: [linux/s390x]}}
          c: {build: {context: ., platforms: [linux/amd64, linux/s390x]}}
    """)
    made = environment.build("a", "b")
    assert [made[name].platform for name in ("a", "b")] == ["linux/s390x"] * 2
    with pytest.raises(pylxc.UnsupportedError, match=r"services\.c\.build\.platforms"):
        environment.build("c")


def test_conditions_are_waited_for_and_what_is_independent_starts_beside(load: Load, engine: pylxc.Engine) -> None:
    environment = load("""
        services:
          web:
            image: busybox
            command: sleep 1000
            depends_on:
              slow: {condition: service_healthy}
              job: {condition: service_completed_successfully}
              absent: {condition: service_healthy, required: false}
          slow:
            image: busybox
            command: sh -c 'until [ -e /go ]; do sleep 0.02; done; touch /ready; sleep 1000'
            healthcheck: {test: "test -e /ready", interval: 50ms, start_period: 60s, start_interval: 50ms}
          job: {image: busybox, command: sh -c 'echo migrated'}
          beside: {image: busybox, command: sleep 1000}
          absent: {image: busybox, profiles: [never]}
    """)
    seen = []

    def let_go() -> None:
        while not environment.ps("slow") or not environment.ps("beside"):
            time.sleep(0.01)
        seen.extend(environment.ps("web"))
        environment.exec("slow", ["touch", "/go"])

    thread = threading.Thread(target=let_go)
    thread.start()
    environment.up()
    thread.join()
    assert seen == []
    assert starts(engine)[-1] == "shop-web-1"
    assert environment.ps("slow")[0].status().health == "healthy"
    assert [line.log.text for line in environment.logs("job")] == ["migrated\n"]
    assert "shop-absent-1" not in ids(environment)


FAILURES = [
    ("command: sh -c 'echo no luck; exit 3'", "service_completed_successfully", "no luck"),
    ("command: sh -c 'echo no luck; exit 3'\n    healthcheck: {test: 'true'}", "service_healthy", "no luck"),
    ("command: sleep 1000", "service_healthy", "no health check"),
    (
        "command: sleep 1000\n    healthcheck: {test: 'echo no luck; false', interval: 20ms, retries: 1}",
        "service_healthy",
        "no luck",
    ),
]


@pytest.mark.parametrize(("depended", "condition", "words"), FAILURES)
def test_what_fails_is_undone(load: Load, engine: pylxc.Engine, depended: str, condition: str, words: str) -> None:
    environment = load(f"""
services:
  web: {{image: busybox, command: sleep 1000, depends_on: {{bad: {{condition: {condition}}}}}}}
  good: {{image: busybox, command: sleep 1000, stop_grace_period: 0s}}
  bad:
    image: busybox
    stop_grace_period: 0s
    {depended}
""")
    with pytest.raises((pylxc.ExitError, pylxc.Conflict), match=words) as caught:
        environment.up()
    assert "shop-bad-1" in str(caught.value)
    assert environment.ps(all=True) == []
    assert pylxc.Network.list(engine=engine) == []


def test_a_replacement_that_does_not_start_leaves_the_old_one_running(load: Load) -> None:
    environment = load(PAIR)
    environment.up()
    before = ids(environment)
    broken = load(PAIR.replace("command: sleep 1000", "command: no-such-program"))
    with pytest.raises(pylxc.SpawnError, match="no-such-program"):
        broken.up()
    assert ids(environment) == before
    assert names(environment.ps()) == ["shop-db-1", "shop-web-1"]
    assert environment.exec("web", ["ping", "-c1", "-W5", "db"]).ok


def test_scale_adds_and_takes_away_and_orphans_are_told_of(load: Load, caplog: pytest.LogCaptureFixture) -> None:
    environment = load("services: {web: {image: busybox, command: sleep 1000, scale: 2, stop_grace_period: 0s}}")
    assert names(environment.up()) == ["shop-web-1", "shop-web-2"]
    before = ids(environment)
    assert names(environment.scale("web", 3)) == ["shop-web-1", "shop-web-2", "shop-web-3"]
    assert environment.exec("web", ["ping", "-c1", "-W5", "shop-web-3"], index=2).ok
    assert names(environment.scale("web", 1)) == ["shop-web-1"]
    assert ids(environment) == {"shop-web-1": before["shop-web-1"]}
    with pytest.raises(pylxc.SpecError, match="scale"):
        environment.scale("web", -1)

    other = load("services: {db: {image: busybox, command: sleep 1000, stop_grace_period: 0s}}")
    other.up()
    assert "shop-web-1" in caplog.text
    assert "remove_orphans" in caplog.text
    assert any("shop-web-1" in warning for warning in other.down())
    assert names(environment.ps()) == ["shop-web-1"]
    other.up(remove_orphans=True)
    assert names(other.ps(all=True)) == ["shop-db-1"]


def test_only_what_is_named_comes_up_with_what_it_needs(load: Load) -> None:
    environment = load("""
        services:
          web: {image: busybox, command: sleep 1000, depends_on: [db]}
          db: {image: busybox, command: sleep 1000}
          other: {image: busybox, command: sleep 1000}
          debug: {image: busybox, command: sleep 1000, profiles: [debug], depends_on: [db]}
    """)
    assert names(environment.up("web")) == ["shop-db-1", "shop-web-1"]
    environment.down("web", timeout=0)
    assert names(environment.ps()) == ["shop-db-1"]
    environment.down(timeout=0)
    assert names(environment.up("web", deps=False)) == ["shop-web-1"]
    assert names(environment.up("debug")) == ["shop-db-1", "shop-debug-1"]
    with pytest.raises(pylxc.SpecError, match="wbe"):
        environment.up("wbe")


def test_any_process_finds_it_and_takes_it_down(load: Load, engine: pylxc.Engine) -> None:
    environment = load(PAIR)
    environment.up(detach=True)
    assert [one.spec.detach for one in environment.ps()] == [True, True]
    again = pylxc.Environment.get("shop", engine=pylxc.Engine(engine.root))
    assert names(again.ps()) == ["shop-db-1", "shop-web-1"]
    assert [one.name for one in pylxc.Environment.list(engine=engine)] == ["shop"]
    again.restart("web", timeout=0)
    assert again.exec("db", ["echo", "here"]).text == "here\n"
    assert again.down(volumes=True, timeout=0) == []
    with pytest.raises(pylxc.NotFound, match="compose ls"):
        pylxc.Environment.get("shop", engine=engine)


def test_leaving_the_block_takes_it_down_unless_it_was_given_away(load: Load, engine: pylxc.Engine) -> None:
    with load(PAIR) as environment:
        environment.up()
    assert pylxc.Container.list(all=True, engine=engine) == []
    with environment:
        environment.up(detach=True)
    assert names(environment.ps()) == ["shop-db-1", "shop-web-1"]


def test_what_belongs_to_a_process_is_given_away_later(load: Load) -> None:
    environment = load(PAIR)
    environment.up()
    before = ids(environment)
    assert [one.spec.detach for one in environment.ps()] == [False, False]
    environment.up(detach=True)
    assert [one.spec.detach for one in environment.ps()] == [True, True]
    assert ids(environment) == before


def test_the_life_of_containers(load: Load) -> None:
    environment = load(PAIR)
    assert [str(one.status()) for one in environment.create()] == ["created", "created"]
    environment.start()
    environment.pause("db")
    assert environment.ps("db")[0].status() == "paused"
    environment.unpause()
    environment.kill("web", signal="KILL")
    assert environment.wait("web") == {"shop-web-1": 137}
    assert environment.rm() == ["shop-web-1"]
    assert list(environment.top()) == ["shop-db-1"]
    with pytest.raises(pylxc.TimeoutExpired):
        environment.wait("db", timeout=0.05)
    environment.stop()
    assert environment.ps() == []
    assert [str(one.status()) for one in environment.ps(all=True)] == ["exited"]


def test_files_go_in_and_out_and_a_command_runs_beside(load: Load, tmp_path: Path) -> None:
    environment = load(PAIR)
    environment.up("db")
    (tmp_path / "note").write_text("written\n")
    environment.cp(str(tmp_path / "note"), "db:/data/")
    environment.cp("db:/data/note", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "written\n"
    with pytest.raises(pylxc.SpecError, match="SERVICE:PATH"):
        environment.cp("db:/a", "db:/b")

    result = environment.run("db", ["sh", "-c", "cat /data/note; exit 3"], check=False)
    assert (result.exit_code, result.text) == (3, "written\n")
    assert names(environment.ps(all=True)) == ["shop-db-1"]
    assert environment.run("web", ["ping", "-c1", "-W5", "db"]).ok


def test_config_is_the_callers_own(load: Load) -> None:
    environment = load(PAIR)
    document = environment.config()
    assert document["services"]["web"]["environment"] == {"GREETING": "hello"}
    document["services"].clear()
    assert environment.services == ("db", "web")


def test_a_name_for_several_is_refused(load: Load) -> None:
    named = load("services: {a: {image: busybox, command: sleep 9, container_name: just}}")
    with pytest.raises(pylxc.UnsupportedError, match="container_name"):
        named.up(scale={"a": 2})
    named.up()
    assert names(named.ps()) == ["just"]
