"""What a build is asked for, as :meth:`pylxc.Image.build` takes it: read, and judged where that needs no store.

Invariant: whoever has a request need not look whether one of its values is well-formed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import Factory, field, frozen

from pylxc import sourcedate
from pylxc.build.agents import Agents
from pylxc.build.cachetransfer import Caches
from pylxc.build.outputs import outputs_of
from pylxc.build.secrets import Secrets
from pylxc.errors import SpecError
from pylxc.normalise import NORMAL
from pylxc.platforms import given as platform_given
from pylxc.platforms import this_platform
from pylxc.reference import check_tag

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from pylxc.build.events import BuildEvent
    from pylxc.build.outputs import Output
    from pylxc.registry.progress import Progress

INSECURE = "security.insecure"
OF_THE_HOST = "network.host"
RIGHTS = (OF_THE_HOST, INSECURE)  # docker's entitlements; the option `network` gives the first, too


def _tags(given: str | Sequence[str] | None) -> tuple[str, ...]:
    tags = (given,) if isinstance(given, str) else tuple(given or ())
    for tag in tags:
        check_tag(tag)
    return tags


def _arguments(given: Mapping[str, str] | None) -> Mapping[str, str]:
    return sourcedate.arguments(given or {})


def _platform(given: str | None) -> str:
    platform = platform_given(given) if given else ""
    return "" if platform == this_platform() else platform


def _network(given: str | None) -> str | None:
    return None if given == "default" else given


def _rights(given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str) or not set(given) <= set(RIGHTS):
        raise SpecError("allow", given, f"give a list of {', '.join(map(repr, RIGHTS))}")
    return tuple(given)


def _labels(given: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    found: Mapping[str, str] = NORMAL["labels"]("labels", given)
    return found


def _extra_hosts(given: Mapping[str, str] | Sequence[str]) -> Mapping[str, str]:
    found: Mapping[str, str] = NORMAL["extra_hosts"]("extra_hosts", given)
    return found


@frozen(kw_only=True)
class Request:
    """The options of a build; they mean what they mean there. ``network``: None is the default one.

    ``platform``: what the image is to be for, in normal form; "" for this machine.

    ``caches`` are those elsewhere. ``latest``: what the steps make bears no later time (s since the epoch), and the
    image has it as its own; None is the time of the base image. Raises SpecError.
    """

    outputs: tuple[Output, ...] = field(default=None, alias="output", converter=outputs_of)
    args: Mapping[str, str] = field(default=None, converter=_arguments)
    tags: tuple[str, ...] = field(default=None, alias="tag", converter=_tags)
    target: str | None = None
    platform: str = field(default=None, converter=_platform)
    labels: Mapping[str, str] = field(default=(), converter=_labels)
    extra_hosts: Mapping[str, str] = field(default=(), converter=_extra_hosts)
    network: str | None = field(default=None, converter=_network)
    allow: tuple[str, ...] = field(default=(), converter=_rights)
    secrets: Secrets = field(default=None, converter=Secrets)
    agents: Agents = field(default=None, alias="ssh", converter=Agents)
    contexts: Mapping[str, str | os.PathLike[str]] | None = None
    no_cache: bool = False
    pull: bool = False
    cache_from: object = None
    cache_to: object = None
    on_event: Callable[[BuildEvent], object] | None = None
    on_progress: Callable[[Progress], object] | None = None
    caches: Caches = field(init=False, default=Factory(lambda one: Caches(one.cache_from, one.cache_to), True))  # noqa: FBT003
    latest: int | None = field(init=False, default=Factory(lambda one: sourcedate.latest(one.args), True))  # noqa: FBT003
