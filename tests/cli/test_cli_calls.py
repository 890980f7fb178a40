"""How the command is called: verbs, flags, and what a wrong call comes to. No container is needed for this."""

import subprocess
import sys

import pytest

from pylxc.cli.app import _VERBS, printable

ISSUE = (
    *("run", "exec", "ps", "images", "build", "tag", "logs", "stop", "rm", "rmi", "inspect", "bootstrap", "import"),
    *(
        "info",
        "version",
        "attach",
        "start",
        "restart",
        "kill",
        "wait",
        "pause",
        "port",
        "unpause",
        "update",
        "stats",
        "top",
        "volume",
        "network",
        "cp",
        "doctor",
        "history",
        "load",
        "log",
        "rollback",
        "save",
        "events",
        "pull",
        "push",
        "login",
        "logout",
        "commit",
        "diff",
        "prune",
        "store",
        "compose",
    ),
)


def test_every_verb_is_there(cli):
    listed = cli.text("--help").partition("Commands:\n")[2]
    assert sorted(line.split()[0] for line in listed.splitlines()) == sorted(ISSUE) == sorted(_VERBS)


@pytest.mark.parametrize("verb", ISSUE)
def test_every_verb_explains_itself(cli, verb):
    assert cli.text(verb, "--help").startswith(f"Usage: pylxc {verb} ")


def test_an_unknown_verb_gets_a_suggestion(cli):
    assert (
        cli.error("imagse", status=2)
        == "pylxc: there is no verb 'imagse'; did you mean 'images'? (see 'pylxc --help')\n"
    )


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["ps", "--colour"], 2),
        (["run"], 125),
        (["run", "--colour", "host"], 125),
        (["exec", "only-a-name"], 125),
        (["rm"], 2),
        (["ps", "--filter", "colour=red"], 2),
        (["ps", "--filter", "name"], 2),
        (["images", "--format", "xml"], 2),
    ],
)
def test_a_wrong_call_is_one_line_and_a_status(cli, words, status):
    assert cli.error(*words, status=status).count("\n") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-it", "host", "true"], "the input device is not a TTY"),
        (["--pull", "sometimes", "host", "true"], "pull"),
        (["--dns", "somewhere", "host", "true"], "dns"),
        (["--network", "bridge", "--network-alias", "web", "host", "true"], "aliases"),
        (["--restart", "sometimes", "host", "true"], "restart"),
        (["-v", "/srv:/data:rshared", "host", "true"], "rslave"),
        (["-v", "d:/data", "host", "true"], "a volume's name"),
        (["-p", "80:99999", "host", "true"], "99999"),
        (["--shm-size", "much", "host", "true"], "shm_size='much'"),
        (["--name", "a b", "host", "true"], "name='a b'"),
        (["--security-opt", "label=x", "host", "true"], "--security-opt 'label=x'"),
        (["--log-opt", "max-file=2", "host", "true"], "max-size"),
        (["--log-opt", "tag=x", "host", "true"], "--log-opt 'tag=x'"),
        (["--log-opt", "max-size=much", "host", "true"], "log='much'"),
    ],
)
def test_options_that_cannot_be_are_named(cli, words, named):
    message = cli.error("run", *words, status=125)
    assert named in message
    assert message.count("\n") == 1


def test_debug_shows_where_an_error_comes_from(cli):
    done = subprocess.run(
        cli.argv("--debug", "run", "--dns", "somewhere", "host", "true"),
        capture_output=True,
        env=cli.environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 125
    assert b"Traceback" in done.stderr
    assert b"SpecError" in done.stderr


def test_version_needs_no_engine(cli):
    assert cli.text("version").startswith("pylxc version ")
    assert cli.text("--version") == cli.text("version").partition("\n")[0] + "\n"
    code = "import sys; from pylxc.cli import main; main(['version']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    loaded = done.stderr.decode().split()
    assert "pylxc.cli.about" in loaded
    assert not {"sqlite3", "rich", "pylxc.cli.run", "pylxc._native"} & set(loaded)


def test_importing_the_entry_point_does_not_import_click():
    code = "import sys, pylxc.cli; sys.exit('click' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("a\x1b[2Jb\nc\udcff", keep="\n") == "a\\x1b[2Jb\nc\\udcff"
    assert printable("é ü") == "é ü"
