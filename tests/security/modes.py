"""The ways in which a container can be run, for whoever runs the tests: root has two, an ordinary user its own."""

from __future__ import annotations

import os

IS_ROOT = os.geteuid() == 0
MODES: dict[str, dict[str, str]] = {"default": {}, "host": {"userns": "host"}} if IS_ROOT else {"rootless": {}}
# The one that keeps closest to the ids of whoever started the container: what bites in any bites in it.
NEAREST = "host" if IS_ROOT else "rootless"
# The one without options.
PLAIN = next(iter(MODES))
