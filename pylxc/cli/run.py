"""``run`` and ``exec``: commands in containers, in the foreground or not.

Invariant: in the foreground and without -t, the command reads and writes the very descriptors of this process: nothing
is copied or buffered on the way. With -t it has a terminal of its own; ``run`` attaches to it, as to a container that
may be started again, so that it can be left.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import click

from pylxc.cli.foreground import exec_keys_option, keys_option, run_attached, show_process, wait_for
from pylxc.cli.ports import drop_ports_of_host, with_exposed
from pylxc.cli.pulling import Puller
from pylxc.cli.resources import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pylxc.cli.app import Settings
    from pylxc.cli.copying import DetachKeys

# Words after the image (or the container) belong to the command, whatever they look like.
_COMMAND_SETTINGS = {"allow_interspersed_args": False}


# -- run ---------------------------------------------------------------------------------------------------------------

# Flags, the option of ContainerSpec that they set, what else click is to know. Options not given are not passed on, so
# that the defaults are those of ContainerSpec.
_MANY = {"multiple": True}
_FLAG = {"is_flag": True, "default": None}
_OPTIONS: tuple[tuple[tuple[str, ...], str, dict[str, Any], str], ...] = (
    (("--name",), "name", {}, "A name for the container."),
    (("-h", "--hostname"), "hostname", {}, "The host name it sees."),
    (("-e", "--env"), "env", _MANY, "Set a variable: NAME=value, or NAME to pass it on."),
    (("--env-file",), "env_file", _MANY, "Read variables from a file."),
    (("-w", "--workdir"), "workdir", {}, "The directory that the command starts in."),
    (("-u", "--user"), "user", {}, "The user: name or uid, then :group or :gid."),
    (("--group-add",), "groups", _MANY, "An additional group: name or gid."),
    (("-l", "--label"), "labels", _MANY, "Set a label: name=value."),
    (("-v", "--volume"), "volumes", _MANY, "Mount a path of the host or a volume: /host:/in[:ro], data:/in, /in."),
    (("--mount",), "mounts", _MANY, "Mount: type=bind|volume|tmpfs,source=...,target=/in[,readonly]."),
    (("--tmpfs",), "tmpfs", _MANY, "Mount memory: /tmp[:size=64m]."),
    (("--read-only",), "read_only", _FLAG, "Make its root file system read-only."),
    (("--network", "--net"), "network", _MANY, 'A network ("bridge" by default), "none", "host" or "container:NAME".'),
    (("--ip",), "ip", {}, "Its IPv4 address on its network."),
    (("--ip6",), "ip6", {}, "Its IPv6 address there."),
    (("--expose",), "expose", _MANY, "A further port that it serves, or a range: -P publishes it."),
    (("--network-alias",), "aliases", _MANY, "A further name for it on its networks."),
    (("-p", "--publish"), "ports", _MANY, "Publish a port: [[address:]port:]port[/udp]; ranges: 8000-8010:80-90."),
    (("--dns",), "dns", _MANY, "A name server."),
    (("--dns-search",), "dns_search", _MANY, 'A domain that names are looked for in; ".": in none.'),
    (("--dns-option", "--dns-opt"), "dns_opt", _MANY, 'An option of resolv.conf(5), such as "ndots:2".'),
    (("--add-host",), "extra_hosts", _MANY, "Add a line to /etc/hosts: name:address, or name:host-gateway."),
    *LIMITS,
    (("--oom-score-adj",), "oom_score_adj", {"type": int}, "How readily it is killed when memory runs out."),
    (("--shm-size",), "shm_size", {}, "The size of /dev/shm."),
    (("--ulimit",), "ulimits", _MANY, "Set a limit: name=soft[:hard]."),
    (("--cap-add",), "cap_add", _MANY, "Add a capability."),
    (("--cap-drop",), "cap_drop", _MANY, "Take a capability away."),
    (("--privileged",), "privileged", _FLAG, "Give all capabilities and devices: no isolation."),
    (("--device",), "devices", _MANY, "Give a device: /dev/fuse[:/dev/fuse[:rwm]]."),
    (("--userns",), "userns", {}, '"host".'),
    (("--pid",), "pid", {}, 'Whose processes it sees: "host" or "container:NAME".'),
    (("--ipc",), "ipc", {}, 'Whose System V objects and message queues: "host" or "container:NAME".'),
    (("--uts",), "uts", {}, 'Whose host name: "host" or "container:NAME".'),
    (("--cgroupns",), "cgroup", {}, '"host" or "private" (the default).'),
    (("--sysctl",), "sysctls", _MANY, "Set a kernel parameter of its namespaces: name=value."),
    (("-i", "--interactive"), "stdin", _FLAG, "Pass standard input on."),
    (("-t", "--tty"), "tty", _FLAG, "Give it a terminal."),
    (("--init",), "init", _FLAG, "Run a small init as its first process."),
    (("--stop-signal",), "stop_signal", {}, "The signal that asks it to end."),
    (("--stop-timeout",), "stop_timeout", {}, "Seconds from that signal to SIGKILL."),
    (("--restart",), "restart", {}, 'When it ends: "no", "on-failure[:n]", "always" or "unless-stopped".'),
    (("--pull",), "pull", {"type": click.Choice(["missing", "always", "never"])}, "When to pull: if it is missing."),
    (("--platform",), "platform", {}, "The platform of the image, such as linux/arm64."),
)


def _spec_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flags, option, settings, text in reversed(_OPTIONS):
        command = click.option(*flags, option, help=text, **settings)(command)
    return command


def _security(options: tuple[str, ...]) -> dict[str, Any]:
    """Translate docker's ``--security-opt``."""
    result: dict[str, Any] = {}
    for text in options:
        name, _, value = text.replace(":", "=", 1).partition("=")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            result["no_new_privileges"] = value != "false"
        elif name == "seccomp":
            result["seccomp"] = value
        else:
            raise click.UsageError(f"--security-opt {text!r}: give no-new-privileges[=false] or seccomp=PROFILE")
    return result


def _log(options: tuple[str, ...]) -> dict[str, Any]:
    """Translate docker's ``--log-opt``."""
    log: dict[str, Any] = {}
    for text in options:
        name, _, value = text.partition("=")
        if name == "max-size":
            log["max_size"] = value
        elif name == "max-file" and value.isdecimal():
            log["max_files"] = int(value)
        else:
            raise click.UsageError(f"--log-opt {text!r}: give max-size=SIZE, and max-file=NUMBER with it")
    if log and "max_size" not in log:
        raise click.UsageError("--log-opt max-file: give max-size as well; a log without a limit is one file")
    return {"log": log} if log else {}


# Flags of the health check, and what each sets in the option.
_HEALTH = (
    ("--health-cmd", "test", "A command that says by its exit status whether the container is well."),
    ("--health-interval", "interval", "Time between two checks: 30s by default."),
    ("--health-timeout", "timeout", "How long a check may take: 30s by default."),
    ("--health-start-period", "start_period", "Time in which failures do not count: 0s by default."),
    ("--health-start-interval", "start_interval", "Time between two checks in it: 5s by default."),
    ("--health-retries", "retries", "So many failures in a row make it unhealthy: 3 by default."),
)


def _health_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--no-healthcheck", is_flag=True, help="Switch the image's health check off.")(command)
    for flag, name, text in reversed(_HEALTH):
        kind = int if name == "retries" else str
        command = click.option(flag, f"health_{name}", help=text, type=kind)(command)
    return command


def _health(given: dict[str, Any]) -> dict[str, Any]:
    """Take the flags of the health check out of those given; returns the option that they set."""
    values = {name: given.pop(f"health_{name}") for _, name, _ in _HEALTH}
    chosen = {name: value for name, value in values.items() if value is not None}
    if given.pop("no_healthcheck"):
        if chosen:
            raise click.UsageError("--no-healthcheck and --health-* exclude each other; give one of them")
        return {"healthcheck": "none"}
    return {"healthcheck": chosen} if chosen else {}


@click.command(context_settings=_COMMAND_SETTINGS)
@_spec_options
@_health_options
@click.option("-P", "--publish-all", "every_port", is_flag=True, help="Publish all ports that the image exposes.")
@click.option("--entrypoint", help="The program to run instead of the image's entrypoint; empty for none.")
@click.option("--security-opt", "security", multiple=True, help="no-new-privileges[=false], seccomp=PROFILE.")
@click.option("--log-opt", "log", multiple=True, help="max-size=10m and max-file=3: when a new log file begins.")
@click.option("--systemd", "system", is_flag=True, help="Boot the image's own init (systemd, sysvinit, busybox).")
@click.option("-d", "--detach", is_flag=True, help="Leave it running and print its id.")
@keys_option
@click.option("--rm", "remove", is_flag=True, help="Remove it when it has ended.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing of a pull.")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(  # noqa: PLR0913  one for each flag that is not an option of ContainerSpec alone
    settings: Settings,
    /,
    *,
    image: str,
    command: tuple[str, ...],
    entrypoint: str | None,
    security: tuple[str, ...],
    log: tuple[str, ...],
    system: bool,
    every_port: bool,
    detach: bool,
    keys: DetachKeys,
    remove: bool,
    quiet: bool,
    **given: Any,
) -> int:
    """Run a command in a new container of IMAGE ("host" is this machine's own system)."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used

    health = _health(given)
    options = {name: value for name, value in given.items() if value is not None and value != ()}
    if len(options.get("network", ())) == 1:
        (options["network"],) = options["network"]  # one word may be more than a name
    options.update(health)
    options.update(_security(security))
    options.update(_log(log))
    if system:
        options["init"] = "system"
    if entrypoint is not None:
        options["entrypoint"] = [entrypoint] if entrypoint else []
    engine = settings.engine()
    words = command or None
    every_port = drop_ports_of_host(options, every=every_port)
    puller = Puller(engine, options.get("platform"), quiet, err=True)
    options["pull"] = puller.obtain(
        image, options.get("pull", "missing"), lambda: pylxc.ContainerSpec.from_options(image, words, options)
    )
    if every_port:
        options["ports"] = with_exposed(options, image, engine)
    if detach:
        click.echo(pylxc.start(image, words, engine=engine, detach=True, remove=remove, **options).id)
        return 0
    interactive = bool(options.get("stdin"))
    options.update(engine=engine, remove=remove, detach=not remove)  # what stays for `start` outlives this process
    if options.get("tty") or options.get("restart", "no") != "no":
        if interactive and options.get("tty"):
            from pylxc.cli import terminal  # noqa: PLC0415  termios is not everywhere wanted

            terminal.check_input()
        return run_attached(lambda: pylxc.create(image, words, **options), interactive=interactive, keys=keys)
    options["stdin"] = pylxc.INHERIT if interactive else subprocess.DEVNULL
    return wait_for(lambda: pylxc.popen(image, words, stdout=pylxc.INHERIT, stderr=pylxc.INHERIT, **options))


# -- exec --------------------------------------------------------------------------------------------------------------


@click.command("exec", context_settings=_COMMAND_SETTINGS)
@click.option("-e", "--env", multiple=True, help="Set a variable: NAME=value, or NAME to pass it on.")
@click.option("--env-file", multiple=True, help="Read variables from a file.")
@click.option("-w", "--workdir", help="The directory that the command starts in.")
@click.option("-u", "--user", help="The user: name or uid, then :group or :gid.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@exec_keys_option
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def exec_(  # noqa: PLR0913  one for each flag
    settings: Settings,
    /,
    *,
    container: str,
    command: tuple[str, ...],
    env: tuple[str, ...],
    env_file: tuple[str, ...],
    interactive: bool,
    tty: bool,
    keys: DetachKeys,
    **given: Any,
) -> int:
    """Run a command in a running container. It ends when this command does."""
    import pylxc  # noqa: PLC0415  heavy modules are imported where they are used
    from pylxc.normalise import NORMAL, read_env_file  # noqa: PLC0415

    variables: dict[str, str] = {}
    for path in env_file:
        variables.update(read_env_file(path))
    variables.update(NORMAL["env"]("env", env))
    options = {"env": variables, **{name: value for name, value in given.items() if value}}
    target, words = pylxc.Container.get(container, engine=settings.engine()), list(command)
    if tty:
        typed = subprocess.PIPE if interactive else subprocess.DEVNULL
        return show_process(
            lambda size: target.popen(words, tty=True, terminal_size=size, stdin=typed, **options),
            interactive=interactive,
            keys=keys,
        )
    source = pylxc.INHERIT if interactive else subprocess.DEVNULL
    return wait_for(lambda: target.popen(words, stdin=source, stdout=pylxc.INHERIT, stderr=pylxc.INHERIT, **options))


VERBS = {"run": run, "exec": exec_}
