"""Whole applications: the Fig file of 2013, and one of three tiers, on Debian's PostgreSQL and Redis."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from applications import FIRST_FIG
from composing import ids, names
from ownnet import host

import pylxc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.network]
__all__ = ["host"]

PACKAGES = ("postgresql", "redis-server", "python3-psycopg2")
# What this machine lacks of these packages lies below root/: they are unpacked, and never started on it.
BASE = """
FROM host
COPY root /
RUN mkdir -p /srv/data && ln -s /usr/lib/postgresql/*/bin /srv/bin \\
 && echo "postgres:x:5432:5432::/srv:/bin/sh" >>/etc/passwd && echo "redis:x:6379:6379::/srv:/bin/sh" >>/etc/passwd \\
 && chown 5432:5432 /srv/data && chmod 700 /srv/data
"""
PGSQL = """
FROM tiers
USER 5432:5432
ENV PATH=/srv/bin:/usr/bin:/bin PGDATA=/srv/data LC_ALL=C
RUN initdb -A trust -N -U postgres >/dev/null && printf 'host all all all trust\\n' >>$PGDATA/pg_hba.conf
EXPOSE 5432
CMD ["postgres", "-c", "listen_addresses=*", "-c", "fsync=off", "-k", "/tmp"]
"""
WEB = 'FROM tiers\nCOPY app.py /app.py\nEXPOSE 8000\nCMD ["/usr/bin/python3", "-u", "/app.py"]\n'
# Counts visits in the database, and in Redis where there is one; says what secret it has been told.
APP = """
import json, os, pathlib, socket, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2


def database():
    host = os.environ.get("DB_PORT_5432_TCP_ADDR", "db")
    for attempt in range(600):
        try:
            return psycopg2.connect(host=host, user="postgres", connect_timeout=5)
        except psycopg2.OperationalError:
            time.sleep(0.05)
    raise SystemExit("no database")


def redis(command):
    with socket.create_connection((os.environ["REDIS"], 6379), timeout=5) as connection:
        connection.sendall(command.encode() + b"\\r\\n")
        return int(connection.recv(100).strip(b":\\r\\n"))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with database() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO visits DEFAULT VALUES")
            cursor.execute("SELECT count(*) FROM visits")
            found = {"visits": cursor.fetchone()[0]}
        if "REDIS" in os.environ:
            found["hits"] = redis("INCR hits")
        secret = pathlib.Path("/run/secrets/token")
        if secret.exists():
            found["secret"] = secret.read_text()
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


with database() as connection, connection.cursor() as cursor:
    cursor.execute("CREATE TABLE IF NOT EXISTS visits (id serial)")
ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
TIERS = """
services:
  web:
    build: .
    environment: {REDIS: cache, GREETING: hello}
    ports: ["127.0.0.1:8000:8000"]
    networks: [front, back]
    secrets: [token]
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_healthy}
    healthcheck:
      test: ["CMD", "/usr/bin/python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000), 2)"]
      interval: 200ms
      retries: 100
    stop_grace_period: 0s
  db:
    image: hagzag/pgsql
    networks: [back]
    volumes: ["data:/srv/data"]
    healthcheck: {test: pg_isready -q -h /tmp, interval: 200ms, retries: 100}
    stop_signal: SIGINT
  cache:
    image: tiers
    user: redis
    command: redis-server --bind 0.0.0.0 --protected-mode no --save ''
    networks: [back]
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 200ms, retries: 100}
networks:
  front: {}
  back: {internal: true}
volumes: {data: {}}
secrets:
  token: {file: token.txt}
"""


def unpack_packages(archives: Path, root: Path) -> None:
    """Fetch Debian's packages, with what this machine lacks of all that they need, and unpack them."""
    (archives / "partial").mkdir(parents=True)
    root.mkdir()
    words = ("install", "-yqq", "--no-install-recommends", "--download-only", f"-oDir::Cache::archives={archives}")
    fetch = ["apt-get", *words, "-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root", *PACKAGES]
    if subprocess.run(fetch, capture_output=True, stdin=subprocess.DEVNULL, timeout=300, check=False).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=True, stdin=subprocess.DEVNULL, timeout=300)
        subprocess.run(fetch, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=300)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True, timeout=60)
    for name in ("bin", "lib", "lib64", "sbin"):  # directories in packages, links on a machine
        if (root / name).is_dir():
            shutil.copytree(root / name, root / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(root / name)


@pytest.fixture(scope="module")
def tiers(shared_engine: pylxc.Engine, tmp_path_factory: pytest.TempPathFactory) -> pylxc.Engine:
    """A store with an image of PostgreSQL, Redis and Python, and with one of a database, ``hagzag/pgsql``."""
    context = tmp_path_factory.mktemp("tiers")
    unpack_packages(context / "archives", context / "root")
    (context / ".dockerignore").write_text("archives")
    (context / "Dockerfile").write_text(BASE)
    pylxc.Image.build(context, tag="tiers", engine=shared_engine)
    (context / "Dockerfile").write_text(PGSQL)
    pylxc.Image.build(context, tag="hagzag/pgsql", engine=shared_engine)
    return shared_engine


@pytest.fixture
def application(tiers: pylxc.Engine, tmp_path: Path) -> Iterator[Path]:
    """The directory of an application; whatever the test brings up there has to be gone at its end."""
    directory = tmp_path / "shop"
    directory.mkdir()
    (directory / "Dockerfile").write_text(WEB)
    (directory / "app.py").write_text(APP)
    (directory / "token.txt").write_text("a secret of theirs")
    yield directory
    left = pylxc.Container.list(all=True, engine=tiers)
    for container in left:
        container.remove(force=True)
    assert left == []
    assert pylxc.Network.list({"label": "org.pylxc.compose.project"}, engine=tiers) == []
    assert pylxc.Volume.list(engine=tiers) == []


def ask() -> dict[str, int | str]:
    """Ask the application, on the port that it publishes."""
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    try:
        connection.request("GET", "/")
        found: dict[str, int | str] = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return found


def test_the_fig_file_of_2013_comes_up_unchanged(application: Path, tiers: pylxc.Engine) -> None:
    (application / "fig.yml").write_text(FIRST_FIG)
    with pylxc.Environment.load(application / "fig.yml", engine=tiers) as environment:
        environment.up()
        environment.ps("web")[0].wait_ready(http="http://localhost:8000/", timeout=60)
        first = ask()["visits"]
        assert ask() == {"visits": int(first) + 1}
        env = environment.exec("web", ["env"]).text
        assert "DB_PORT_5432_TCP_ADDR=" in env
        assert "DB_1_PORT_5432_TCP_PORT=5432" in env
        assert environment.exec("web", ["getent", "hosts", "db"]).ok
        before = ids(environment)
        environment.up()
        assert ids(environment) == before
        environment.down(timeout=0)  # the application is PID 1, and minds no SIGTERM


def test_three_tiers_come_up_serve_change_and_go(application: Path, tiers: pylxc.Engine) -> None:
    (application / "compose.yaml").write_text(TIERS)
    environment = pylxc.Environment.load(application / "compose.yaml", engine=tiers)
    with environment:
        environment.up(wait=True, wait_timeout=120)
        assert ask() == {"visits": 1, "hits": 1, "secret": "a secret of theirs"}
        before, starts = ids(environment), [one.status().started_at for one in environment.ps()]

        environment.up(wait=True)
        assert ids(environment) == before
        assert [one.status().started_at for one in environment.ps()] == starts  # nothing has started again
        assert ask()["visits"] == 2
        assert environment.exec("db", ["getent", "hosts", "web"]).ok
        assert "front" not in str(environment.ps("db")[0].inspect()["NetworkSettings"]["Networks"])

        (application / "compose.yaml").write_text(TIERS.replace("GREETING: hello", "GREETING: welcome"))
        changed = pylxc.Environment.load(application / "compose.yaml", engine=tiers)
        changed.up(wait=True, wait_timeout=120)
        after = ids(changed)
        assert {name for name in after if after[name] != before[name]} == {"shop-web-1"}
        assert ask() == {"visits": 3, "hits": 3, "secret": "a secret of theirs"}

        (application / "token.txt").write_text("another")
        changed.up(wait=True, wait_timeout=120)
        assert ask()["secret"] == "another"  # noqa: S105

        changed.down()
        changed.up(wait=True, wait_timeout=120)
        assert ask()["visits"] == 5  # the volume has stayed
        assert names(changed.ps()) == ["shop-cache-1", "shop-db-1", "shop-web-1"]
        changed.down(volumes=True)
