"""The images of an environment's services: built, pulled, pushed.

Invariant: an image is looked for once for each service of an ``up``, so that all its containers are of the same one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pylxc.compose.parts import labels
from pylxc.compose.parts.refusals import unsupported
from pylxc.compose.parts.services import host_pairs
from pylxc.errors import ImageNotFound, SpecError
from pylxc.image import Image
from pylxc.runtime.waiting import drive, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pylxc.build.events import BuildEvent
    from pylxc.compose.model import Model
    from pylxc.engine import Engine

# What of `build` is carried out. The names are those of Image.build, but for these.
_BUILD_KEYS = frozenset(
    (
        "context",
        "dockerfile",
        "dockerfile_inline",
        "args",
        "target",
        "secrets",
        "ssh",
        "no_cache",
        "network",
        "additional_contexts",
        "pull",
        "cache_from",
        "cache_to",
        "tags",
        "labels",
        "extra_hosts",
        "entitlements",
        "platforms",
        "privileged",
    )
)
_PULL = {"always": "always", "never": "never", "missing": "missing", "if_not_present": "missing", "build": "missing"}


def policy_of(model: Model, name: str, service: Mapping[str, Any], pull: str | None = None) -> str:
    """Return when the image of a service is pulled: "missing", "always" or "never"; ``pull`` overrides the file."""
    given = pull if pull not in (None, "policy") else service.get("pull_policy") or "missing"
    if given not in _PULL:
        remedy = f"give one of {', '.join(sorted(_PULL))}"
        raise unsupported(model, f"services.{name}.pull_policy: {given}", remedy)
    return _PULL[str(given)]


def obtain(  # noqa: PLR0913  one for each flag
    engine: Engine,
    model: Model,
    name: str,
    service: Mapping[str, Any],
    *,
    build: bool | None = None,
    pull: str | None = None,
    on_event: Callable[[BuildEvent], object] | None = None,
) -> Image:
    """Return the image of a service. ``build``: True builds it anew, False never, None where it is not there.

    Raises ImageNotFound, BuildError, DockerfileError, AuthError, RegistryError.
    """
    from pylxc import obtaining  # noqa: PLC0415

    reference = labels.image_name(model.name, service, name)
    policy = policy_of(model, name, service, pull)
    if service.get("build") and build is not False:
        if build or service.get("pull_policy") == "build":
            return build_one(engine, model, name, service, on_event=on_event)
        try:
            return _local(engine, reference, service)
        except ImageNotFound:
            # As docker does: what has a recipe is built, unless the file says that it is to be pulled.
            if service.get("pull_policy") not in ("always", "missing", "if_not_present"):
                return build_one(engine, model, name, service, on_event=on_event)
    elif not service.get("image"):
        raise SpecError(f"services.{name}", reference, "has neither image nor build")
    platform = service.get("platform")
    return drive(steps_of(obtaining.obtain, engine, reference, policy, platform))


def _local(engine: Engine, reference: str, service: Mapping[str, Any]) -> Image:
    from pylxc import obtaining  # noqa: PLC0415

    return drive(steps_of(obtaining.obtain, engine, reference, "never", service.get("platform")))


def build_one(  # noqa: PLR0913  one for each flag
    engine: Engine,
    model: Model,
    name: str,
    service: Mapping[str, Any],
    *,
    no_cache: bool = False,
    pull: bool = False,
    args: Mapping[str, str] | None = None,
    on_event: Callable[[BuildEvent], object] | None = None,
) -> Image:
    """Build the image of a service. Raises BuildError, DockerfileError, SpecError, UnsupportedError."""
    given = service["build"]
    path = f"services.{name}.build"
    _check(model, path, given)
    context, dockerfile = _recipe(model, given)
    tags = [labels.image_name(model.name, service, name), *(given.get("tags") or ())]
    allow = list(given.get("entitlements") or ())
    if given.get("privileged"):
        allow.append("security.insecure")
    values = {key: str(value) for key, value in (given.get("args") or {}).items() if value is not None}
    return Image.build(
        context,
        dockerfile,
        tag=tags,
        args={**values, **(args or {})},
        target=given.get("target") or None,
        secrets=_secrets(model, path, given),
        ssh=_agents(given),
        allow=allow,
        no_cache=no_cache or bool(given.get("no_cache")),
        network=given.get("network") or None,
        extra_hosts=dict(host_pairs(given.get("extra_hosts") or ())),
        labels=given.get("labels") or (),
        contexts=_contexts(given),
        platform=service.get("platform") or next(iter(given.get("platforms") or ()), None),
        pull=pull or bool(given.get("pull")),
        cache_from=list(given.get("cache_from") or ()) or None,
        cache_to=list(given.get("cache_to") or ()) or None,
        on_event=on_event,
        engine=engine,
    )


def _check(model: Model, path: str, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if value and key not in _BUILD_KEYS and not key.startswith("x-"):
            raise unsupported(model, f"{path}.{key}", "it is not carried out; leave it out")
    if len(given.get("platforms") or ()) > 1:
        raise unsupported(model, f"{path}.platforms", "an image is built for one platform; name one")


def _recipe(model: Model, given: Mapping[str, Any]) -> tuple[str, Any]:
    context = str(given.get("context") or ".")
    if "://" not in context and not context.startswith("git@"):
        context = os.path.join(model.working_dir, context)  # noqa: PTH118
    if given.get("dockerfile_inline"):
        import io  # noqa: PLC0415  few have one

        return context, io.BytesIO(str(given["dockerfile_inline"]).encode())
    return context, given.get("dockerfile") or "Dockerfile"


def _secrets(model: Model, path: str, given: Mapping[str, Any]) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for use in given.get("secrets") or ():
        source = use if isinstance(use, str) else use["source"]
        target = source if isinstance(use, str) else use.get("target") or source
        declared = (model.document.get("secrets") or {}).get(source) or {}
        if declared.get("environment"):
            found[target] = f"env:{declared['environment']}"
        elif declared.get("content") is not None:
            found[target] = str(declared["content"]).encode()
        elif declared.get("file"):
            found[target] = os.path.join(model.working_dir, declared["file"])  # noqa: PTH118
        else:
            raise unsupported(model, f"{path}.secrets: {source}", "say where it comes from: file or environment")
    return found or None


def _agents(given: Mapping[str, Any]) -> list[str] | None:
    found = given.get("ssh") or ()
    if isinstance(found, dict):
        return [f"{key}={value}" if value else key for key, value in found.items()] or None
    return [str(one) for one in found] or None


def _contexts(given: Mapping[str, Any]) -> dict[str, str] | None:
    found = given.get("additional_contexts") or {}
    pairs = found.items() if isinstance(found, dict) else (str(one).split("=", 1) for one in found)
    return dict(pairs) or None
