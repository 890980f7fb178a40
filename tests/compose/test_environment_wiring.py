"""What a container of an environment has of others, and of the file: networks, links, namespaces, volumes, secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from composing import ids, load
from ownnet import host

import pylxc

if TYPE_CHECKING:
    from pathlib import Path

    from composing import Load

pytestmark = pytest.mark.root
__all__ = ["host", "load"]

SLEEP = "image: busybox, command: sleep 1000, stop_grace_period: 0s"


def test_networks_keep_apart_and_have_aliases_of_their_own(load: Load, engine: pylxc.Engine) -> None:
    environment = load(f"""
        services:
          web: {{{SLEEP}, networks: {{front: {{aliases: [www]}}, back: {{aliases: [behind], priority: 5}}}}}}
          db: {{{SLEEP}, networks: [back]}}
          proxy: {{{SLEEP}, networks: [front]}}
          none: {{{SLEEP}, network_mode: none}}
        networks:
          front: {{ipam: {{config: [{{subnet: 10.77.0.0/24}}]}}, labels: {{tier: front}}}}
          back: {{internal: true, name: behind_the_shop}}
    """)
    environment.up()
    found = {one.name: one for one in pylxc.Network.list(engine=engine)}
    assert sorted(found) == ["behind_the_shop", "shop_front"]
    assert (found["behind_the_shop"].internal, found["shop_front"].internal) == (True, False)
    assert found["shop_front"].subnets == ("10.77.0.0/24",)
    assert found["shop_front"].labels["tier"] == "front"

    def knows(service: str, name: str) -> bool:
        return environment.exec(
            service, ["sh", "-c", f"grep -qw {name} /etc/hosts && ping -c1 -W3 {name}"], check=False
        ).ok

    assert [knows("proxy", name) for name in ("www", "web", "shop-web-1", "behind")] == [True] * 3 + [False]
    assert [knows("db", name) for name in ("behind", "web", "www")] == [True, True, False]
    assert environment.exec("none", ["ls", "/sys/class/net"]).text == "lo\n"
    before = ids(environment)
    environment.up()
    assert ids(environment) == before


def test_addresses_that_a_service_is_to_have(load: Load, engine: pylxc.Engine) -> None:
    text = f"""
        services:
          web:
            {{{SLEEP}, networks: {{front: {{ipv4_address: 10.77.0.9, ipv6_address: "fd00:77::9"}},
                                 back: {{ipv4_address: 10.78.0.%d}}}}}}
          db: {{{SLEEP}, networks: {{back: {{}}}}}}
        networks:
          front: {{enable_ipv6: true, ipam: {{config: [{{subnet: 10.77.0.0/24}}, {{subnet: "fd00:77::/64"}}]}}}}
          back: {{ipam: {{config: [{{subnet: 10.78.0.0/24}}]}}}}
    """
    environment = load(text % 20)
    environment.up()
    seen = environment.exec("web", ["ip", "-o", "addr"]).text
    for address in ("10.77.0.9/24", "fd00:77::9/64", "10.78.0.20/24"):
        assert address in seen
    assert "10.78.0.20" in environment.exec("db", ["cat", "/etc/hosts"]).text
    before = ids(environment)
    environment.up()
    assert ids(environment) == before
    environment = load(text % 21)
    environment.up()
    assert ids(environment)["shop-db-1"] == before["shop-db-1"]
    assert "10.78.0.21/24" in environment.exec("web", ["ip", "-o", "addr"]).text
    with pytest.raises(pylxc.Conflict, match=r"10\.7[78]\.0\."):
        environment.scale("web", 2)
    assert len(environment.ps()) == 2
    with pytest.raises(pylxc.PylxcError, match="no-such-program"):  # and what was there is there again
        load((text % 22).replace("sleep 1000", "no-such-program", 1)).up()
    assert "10.78.0.21/24" in environment.exec("web", ["ip", "-o", "addr"]).text
    assert "10.77.0.9/24" in environment.exec("web", ["ip", "-o", "addr"]).text


def test_a_network_that_is_declared_otherwise_is_made_anew(load: Load, engine: pylxc.Engine) -> None:
    text = f"services: {{web: {{{SLEEP}}}}}\nnetworks: {{default: {{internal: %s}}}}"
    first = load(text % "false")
    first.up()
    before = ids(first)
    second = load(text % "true")
    second.up()
    assert [one.internal for one in pylxc.Network.list(engine=engine)] == [True]
    assert ids(second) != before


def test_what_is_external_is_used_and_stays(load: Load, engine: pylxc.Engine) -> None:
    text = f"""
        services: {{web: {{{SLEEP}, networks: [lan], volumes: ["kept:/kept"]}}}}
        networks: {{lan: {{external: true, name: outside}}}}
        volumes: {{kept: {{external: true, name: theirs}}}}
    """
    with pytest.raises(pylxc.NetworkNotFound, match="external"):
        load(text).up()
    with pylxc.Network.create("outside", engine=engine):
        with pytest.raises(pylxc.VolumeNotFound, match="external"):
            load(text).up()
        volume = pylxc.Volume.create("theirs", engine=engine)
        environment = load(text)
        environment.up()
        environment.exec("web", ["touch", "/kept/here"])
        environment.down(volumes=True)
        assert (volume.path / "here").exists()
        assert [one.name for one in pylxc.Network.list(engine=engine)] == ["outside"]
        volume.remove()


def test_a_network_of_others_is_not_taken(load: Load, engine: pylxc.Engine) -> None:
    with pylxc.Network.create("shop_default", engine=engine):
        with pytest.raises(pylxc.Conflict, match="external"):
            load(f"services: {{web: {{{SLEEP}}}}}").up()
        assert pylxc.Network.get("shop_default", engine=engine)


def test_links_give_hosts_and_variables_that_follow(load: Load) -> None:
    text = f"""
        services:
          web: {{{SLEEP}, links: ["db:database"]}}
          db: {{{SLEEP}, expose: ["5432", "53/udp"], environment: {{COLOUR: %s}}}}
    """
    environment = load(text % "one")
    environment.up()
    before = ids(environment)
    (address,) = environment.ps("db")[0].inspect()["NetworkSettings"]["Networks"].values()
    env = dict(line.split("=", 1) for line in environment.exec("web", ["env"]).text.splitlines())
    ip = address["IPAddress"]
    assert env["DATABASE_PORT_5432_TCP"] == f"tcp://{ip}:5432"
    assert env["DATABASE_PORT_5432_TCP_ADDR"] == ip
    assert env["DATABASE_PORT_53_UDP_PORT"] == "53"
    assert env["DATABASE_PORT_53_UDP_PROTO"] == "udp"
    assert env["DATABASE_PORT"] == f"udp://{ip}:53"
    assert env["DATABASE_NAME"] == "/shop-db-1/database"
    assert env["DATABASE_ENV_COLOUR"] == "one"
    assert env["DB_1_PORT_5432_TCP_ADDR"] == env["SHOP_DB_1_PORT_5432_TCP_ADDR"] == ip
    hosts = environment.exec("web", ["cat", "/etc/hosts"]).text.split()
    assert {"database", "db_1", "shop_db_1", "db"} <= set(hosts)
    again = load(text % "two")
    again.up()
    assert again.exec("web", ["sh", "-c", "echo $DATABASE_ENV_COLOUR"]).text == "two\n"
    assert ids(again).keys() == before.keys()


def test_namespaces_and_volumes_of_other_services(load: Load) -> None:
    environment = load(f"""
        services:
          side:
            {{{SLEEP}, volumes_from: ["main:ro"],
             network_mode: "service:main", pid: "service:main", ipc: "service:main"}}
          main: {{{SLEEP}, volumes: [/shared, "data:/data"], environment: {{A: "1"}}}}
        volumes: {{data: {{}}}}
    """)
    environment.up()
    environment.exec("main", ["sh", "-c", "echo here | tee /shared/file /data/file"])
    assert environment.exec("side", ["cat", "/shared/file", "/data/file"]).text == "here\nhere\n"
    assert not environment.exec("side", ["touch", "/shared/no"], check=False).ok
    links = ["sh", "-c", "for kind in net pid ipc; do readlink /proc/self/ns/$kind; done"]
    assert environment.exec("side", links).text == environment.exec("main", links).text
    before = ids(environment)
    environment.up("main", force_recreate=True)
    environment.up()
    after = ids(environment)
    assert all(after[name] != before[name] for name in after)  # what it shared is gone
    assert environment.exec("side", ["cat", "/shared/file"]).text == "here\n"


SECRETS = """
    services:
      web:
        image: busybox
        command: sleep 1000
        stop_grace_period: 0s
        read_only: true
        tmpfs: [/run]
        secrets: [token, {source: token, target: password, uid: "103", gid: "104", mode: 0440}, word]
        configs: [{source: motd, target: /etc/motd.d/today}, said]
    secrets: {token: {file: token.txt}, word: {environment: WORD}}
    configs: {motd: {content: "costs 5 $$ each\\n"}, said: {file: token.txt}}
"""


def test_secrets_and_configs_are_files_and_in_nothing_else(
    load: Load, engine: pylxc.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORD", raising=False)
    (tmp_path / "shop/.env").write_text("WORD='from the environment'\n")
    (tmp_path / "shop/token.txt").write_bytes(b"\x00secret\xff")
    environment = load(SECRETS)
    environment.up()
    (container,) = environment.ps()
    listed = environment.exec("web", ["sh", "-c", "cd /run/secrets && stat -c '%n %u:%g %a' *"]).text
    assert listed == "password 103:104 440\ntoken 0:0 444\nword 0:0 444\n"
    assert environment.exec("web", ["cat", "/run/secrets/token"]).stdout == b"\x00secret\xff"
    assert (
        environment.exec("web", ["cat", "/run/secrets/word", "/said"]).stdout == b"from the environment\x00secret\xff"
    )
    assert environment.exec("web", ["cat", "/etc/motd.d/today"]).text == "costs 5 $ each\n"
    assert environment.exec("web", ["sh", "-c", "echo no >/run/secrets/token"], check=False).exit_code == 1
    assert "secret" not in str([change for change in container.diff() if "run/secrets/" in change.path])
    assert "from the environment" not in container.spec.to_json()
    assert (engine.root / "volumes/shop.contents/data").stat().st_mode & 0o777 == 0o700
    before = ids(environment)
    environment.up()
    assert ids(environment) == before
    (tmp_path / "shop/token.txt").write_text("another")
    environment.up()
    assert ids(environment) != before
    assert environment.exec("web", ["cat", "/run/secrets/token"]).text == "another"
    kept = (engine.root / "volumes/shop.contents/data").iterdir()
    assert b"\x00secret\xff" not in [path.read_bytes() for path in kept]  # the old ones are nobody's any more


def test_what_cannot_be_a_secret_is_refused(load: Load, tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    os.mkfifo(directory / "fifo")
    (directory / "large").write_bytes(bytes((1 << 20) + 1))
    (directory / "directory").mkdir()
    text = "services: {web: {image: busybox, command: sleep 1, secrets: [token]}}\nsecrets: {token: %s}"
    for given, words in (
        ("{file: fifo}", "regular file"),
        ("{file: /dev/zero}", "regular file"),
        ("{file: directory}", "regular file|directory"),
        ("{file: large}", "1048576"),
        ("{file: absent}", "No such file"),
        ("{environment: THERE_IS_NO_SUCH_VARIABLE}", "not set"),
        ("{external: true}", "external"),
    ):
        environment = load(text % given)
        with pytest.raises((pylxc.ComposeError, pylxc.UnsupportedError), match=words):
            environment.up()
        assert environment.ps(all=True) == []


def test_a_part_of_a_volume_and_a_directory_as_a_volume(load: Load, engine: pylxc.Engine, tmp_path: Path) -> None:
    volume = pylxc.Volume.create("shop_data", labels={"a": "b"}, engine=engine)
    (volume.path / "in").mkdir()
    (volume.path / "in/file").write_text("part")
    (volume.path / "out").symlink_to("/etc")
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/here").write_text("bound")
    text = f"""
        services:
          web:
            image: busybox
            command: sleep 1000
            stop_grace_period: 0s
            volumes:
              - {{type: volume, source: data, target: /part, volume: {{subpath: %s}}}}
              - {{type: volume, source: bound, target: /bound}}
              - {{type: tmpfs, target: /quick, tmpfs: {{size: 1m, mode: 0700}}}}
              - ./made/by/up:/made
        volumes:
          data: {{}}
          bound: {{driver_opts: {{type: none, o: bind, device: {tmp_path}/bound}}}}
    """
    environment = load(text % "in")
    environment.up()
    assert environment.exec("web", ["cat", "/part/file", "/bound/here"]).text == "partbound"
    assert environment.exec("web", ["stat", "-c", "%a", "/quick"]).text == "700\n"
    assert (tmp_path / "shop/made/by/up").is_dir()
    for outside in ("../x", "/in"):
        with pytest.raises((pylxc.ComposeError, pylxc.SpecError), match="subpath"):
            load(text % outside).up()
    with pytest.raises(pylxc.SpawnError, match="No such file"):  # its link is resolved inside the volume
        load(text % "out/passwd").up()
    environment.down()
    volume.remove()


def test_hooks_are_carried_out(load: Load) -> None:
    environment = load("""
        services:
          web:
            image: busybox
            command: sleep 1000
            stop_grace_period: 0s
            volumes: ["data:/data"]
            post_start: [{command: sh -c 'echo started as $$(id -u) >>/data/log', user: "7"}]
            pre_stop: [{command: sh -c 'echo stopping $$WHY >>/data/log', environment: {WHY: because}}]
        volumes: {data: {}}
    """)
    environment.create()
    environment.run("web", ["chmod", "777", "/data"])
    environment.start()
    environment.stop()
    assert environment.run("web", ["cat", "/data/log"]).text == "started as 7\nstopping because\n"
    with pytest.raises(pylxc.ExitError):
        load("services: {web: {image: busybox, command: sleep 9, post_start: [{command: 'false'}]}}").up()


def test_an_environment_has_the_limits_that_it_asks_for(load: Load) -> None:
    environment = load("""
        services:
          web:
            image: busybox
            command: sleep 1000
            stop_grace_period: 0s
            deploy: {resources: {limits: {memory: 32M, pids: 20}}}
            ulimits: {nofile: {soft: 100, hard: 200}}
            sysctls: {net.core.somaxconn: 77}
            cap_drop: [ALL]
            user: "1000:1000"
            read_only: true
            hostname: box
            environment: {A: "$$x"}
    """)
    environment.up()
    script = "ulimit -n; cat /proc/sys/net/core/somaxconn; id -u; hostname; echo $A; grep CapEff /proc/self/status"
    found = environment.exec("web", ["sh", "-c", script]).text.split()
    assert found == ["100", "77", "1000", "box", "$x", "CapEff:", "0000000000000000"]
    assert environment.ps()[0].stats().memory_limit == 32 << 20
