"""Applications that several tests load: text and what is to be beside it."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

from pylxc.compose.files.loading import load

if TYPE_CHECKING:
    from pathlib import Path

    from pylxc.compose.model import Model

# The first example of Fig's documentation.
FIRST_FIG = """\
web:
  build: .
  links:
   - db
  ports:
   - 8000:8000
db:
  image: hagzag/pgsql
"""
SHOP = """\
services:
  web_app:
    build: .
    image: localhost/app:latest
    command: ["sh", "-c", "echo $$(HOME) $$HOME"]
    ports: ["8080:80", "9000"]
    expose: ["7000-7001/udp"]
    environment: {A: 1, UNSET: , C: "$$(X)"}
    depends_on: {db: {condition: service_healthy}}
    volumes: [data:/data, ./code:/code:ro, /scratch]
    tmpfs: /run:size=10m
    secrets: [{source: password, mode: 0400}, token]
    configs: [{source: site, target: /etc/site.conf}]
    healthcheck: {test: curl -f localhost, interval: 5s, retries: 2, start_period: 1m}
    deploy: {replicas: 2, resources: {limits: {cpus: 0.5, memory: 64m}, reservations: {memory: 32m}}}
    user: "1000:1001"
    read_only: true
    cap_drop: [ALL]
    cap_add: [CAP_NET_ADMIN]
    security_opt: [no-new-privileges:true]
    dns: 1.1.1.1
    dns_opt: [ndots:2, rotate]
    extra_hosts: ["h:10.0.0.1"]
    stop_grace_period: 1m
    pull_policy: never
    hostname: web
    labels: {a.b/c: d, "bad key": z}
    networks: {default: {aliases: [www]}, back: }
    shm_size: 64m
    working_dir: /code
    links: [db]
  db:
    image: localhost/app:latest
    command: sleep 100
    restart: on-failure
    pull_policy: never
    volumes: [data:/var/lib/db]
    healthcheck: {test: [CMD, check]}
volumes: {data: {x-kubernetes-size: 5Gi}}
networks: {back: }
secrets: {password: {file: ./password.txt}, token: {environment: TOKEN}}
configs: {site: {content: "x $$y"}}
"""


def shop(place: Path) -> Model:
    """Load the application SHOP, its files in this directory."""
    (place / "password.txt").write_text("s3cret")
    return loaded(place, SHOP)


def loaded(place: Path, text: str) -> Model:
    """Load an application as the project "t"."""
    (place / "compose.yaml").write_text(dedent(text))
    return load([place / "compose.yaml"], project="t", environment={})
