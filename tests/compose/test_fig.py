"""Fig files of 2013: services at the top, read into today's form."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from applications import FIRST_FIG

from pylxc.compose.files.loading import load
from pylxc.errors import ComposeError

if TYPE_CHECKING:
    from pathlib import Path

    from pylxc.compose.model import Model

DEFAULT = {"networks": {"default": None}}


def read(place: Path, text: str, name: str = "fig.yml", **variables: str) -> Model:
    (place / name).write_text(dedent(text))
    return load([place / name], project="app", environment=variables)


def test_the_first_example(tmp_path: Path) -> None:
    model = read(tmp_path, FIRST_FIG)
    assert model.fig
    assert model.name == "app"
    assert model.document == {
        "name": "app",
        "services": {
            "web": {
                "build": {"context": str(tmp_path), "dockerfile": "Dockerfile"},
                "links": ["db"],
                "ports": [{"mode": "ingress", "target": 8000, "published": "8000", "protocol": "tcp"}],
                "depends_on": {"db": {"condition": "service_started", "required": True, "restart": True}},
                "command": None,
                "entrypoint": None,
                **DEFAULT,
            },
            "db": {"image": "hagzag/pgsql", "command": None, "entrypoint": None, **DEFAULT},
        },
        "networks": {"default": {"name": "app_default", "ipam": {}}},
    }


EVERY_KEY = """\
a:
  image: debian
  command: bundle exec 'thin -p 3000'
  ports: ["3000", "49100:22", "127.0.0.1:8001:8001", 22:22]
  expose: ["3000", 8000]
  volumes: [/var/lib/mysql, cache/:/tmp/cache, ~/configs:/etc/configs/:ro, ./x:/x]
  volumes_from: [b, container_name]
  environment:
    RACK_ENV: development
    SESSION_KEY:
  dns: 8.8.8.8
  net: container:b
  working_dir: /code
  entrypoint: /code/entrypoint.sh
  user: postgresql
  hostname: foo
  domainname: foo.com
  mem_limit: 1000000000
  privileged: true
b:
  image: debian
  dns: [8.8.8.8, 9.9.9.9]
  environment: [RACK_ENV=development, SESSION_KEY]
  net: none
c: {build: ./c, net: "container:elsewhere", dockerfile: Other, log_driver: syslog, log_opt: {a: b}}
"""
TOLD = {"SESSION_KEY": "told", "HOME": "/home/somebody"}


def test_every_key(tmp_path: Path) -> None:
    model = read(tmp_path, EVERY_KEY, **TOLD)
    service = dict(model.services["a"])
    mounts = [(one["type"], one.get("source"), one["target"]) for one in service.pop("volumes")]
    assert mounts[0] == ("volume", None, "/var/lib/mysql")
    assert mounts[1] == ("bind", str(tmp_path / "cache"), "/tmp/cache")
    assert mounts[2][0::2] == ("bind", "/etc/configs")
    assert mounts[3] == ("bind", str(tmp_path / "x"), "/x")
    ports = [(one.get("host_ip"), one.get("published"), one["target"]) for one in service.pop("ports")]
    assert ports == [(None, None, 3000), (None, "49100", 22), ("127.0.0.1", "8001", 8001), (None, "22", 22)]
    started = {"condition": "service_started", "required": True}
    assert service == {
        "image": "debian",
        "command": ["bundle", "exec", "thin -p 3000"],
        "expose": ["3000", "8000"],
        "volumes_from": ["b", "container:container_name"],
        "environment": {"RACK_ENV": "development", "SESSION_KEY": "told"},
        "dns": ["8.8.8.8"],
        "network_mode": "service:b",
        "depends_on": {"b": {**started, "restart": True}},
        "working_dir": "/code",
        "entrypoint": ["/code/entrypoint.sh"],
        "user": "postgresql",
        "hostname": "foo",
        "domainname": "foo.com",
        "mem_limit": "1000000000",
        "privileged": True,
    }


def test_keys_that_have_other_names_now(tmp_path: Path) -> None:
    model = read(tmp_path, EVERY_KEY, **TOLD)
    assert model.services["b"]["network_mode"] == "none"
    assert model.services["b"]["environment"] == {"RACK_ENV": "development", "SESSION_KEY": "told"}
    assert model.services["c"]["network_mode"] == "container:elsewhere"
    assert model.services["c"]["build"] == {"context": str(tmp_path / "c"), "dockerfile": "Other"}
    assert model.services["c"]["logging"] == {"driver": "syslog", "options": {"a": "b"}}


def test_a_dollar_is_a_dollar_in_fig(tmp_path: Path) -> None:
    text = "a: {image: debian, command: 'echo $HOME $$ ${X'}\n"
    assert read(tmp_path, text).services["a"]["command"] == ["echo", "$HOME", "$$", "${X"]


def test_a_variable_is_filled_in_in_the_first_compose_files(tmp_path: Path) -> None:
    text = "a: {image: 'debian:$TAG'}\n"
    assert read(tmp_path, text, "docker-compose.yml", TAG="12").services["a"]["image"] == "debian:12"


def test_fig_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fig.yml").write_text("a: {image: debian}\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    model = load([], environment={})
    assert model.fig
    assert model.files == (tmp_path / "fig.yml",)
    assert model.working_dir == tmp_path


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("a:\n  image: x\n  build: .\n", 1, "a", "not both"),
        ("a:\n  image: x\nb:\n  command: x\n", 3, "b", "neither"),
        ("a:\n  image: x\n  prots: [80]\n", 3, "a.prots", "'ports'"),
        ("a:\n  image: x\nb: 5\n", 3, "b", "mapping"),
        ("a:\n  image: x\n  links: [b]\n", 3, "services.a.depends_on.b", "no service 'b'"),
        ("a:\n  image: x\n  networks: [b]\n", 3, "a.networks", "not known"),
        ("a:\n  image: x\n  volumes: /x\n", 3, "a.volumes", "sequence"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, line: int, key: str, said: str) -> None:
    with pytest.raises(ComposeError, match=said) as caught:
        read(tmp_path, text)
    assert (caught.value.file, caught.value.line, caught.value.key) == (str(tmp_path / "fig.yml"), line, key)


def test_a_compose_file_is_none(tmp_path: Path) -> None:
    assert not read(tmp_path, "services: {a: {image: x}}\n").fig
    assert not read(tmp_path, "x-a: {image: x}\nvolumes: {build: {}}\n").fig
