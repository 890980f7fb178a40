"""ADD of repositories, served on loopback by git's own server: which commit, which files, and nothing of the rest."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from boxes import await_true, is_alive
from building import contents, members
from upstream import WHO, Upstream

from pylxc.build import git as running
from pylxc.build.confined import ContextError
from pylxc.build.git import Git
from pylxc.build.repository import Repository
from pylxc.errors import BuildError, DockerfileError

if TYPE_CHECKING:
    from pathlib import Path


def add(build, line):
    return build(f"FROM scratch\nADD {line}\n").layers[0]


def test_the_files_of_the_head(build, upstream, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2000000000")  # what is later than the base is clamped
    (upstream.path / "sub/tool").chmod(0o777)
    upstream.commit({})
    layer = add(build, f"{upstream.url} /src")
    assert contents(layer) == {"src/a": b"a", "src/sub/b": b"b", "src/sub/tool": b"#!"}
    found = {name: (entry.mode, entry.uid, entry.gid, entry.mtime) for name, entry in members(layer).items()}
    assert found["src/a"] == (0o644, 0, 0, 1_000_000_000)
    assert found["src/sub/tool"] == (0o755, 0, 0, 1_000_000_000)
    assert found["src/sub"] == (0o755, 0, 0, 1_000_000_000)
    assert members(layer)["src/link"].linkname == "sub/b"


def test_branches_tags_commits_and_directories(build, upstream):
    first = upstream.git("rev-parse", "HEAD")
    upstream.git("tag", "light")
    upstream.git("tag", "-a", "-m", "x", "heavy")
    upstream.git("checkout", "-q", "-b", "feature/x")
    second = upstream.commit({"a": "second"})
    upstream.git("tag", "both", first)
    upstream.git("branch", "both", second)
    upstream.git("checkout", "-q", "main")
    upstream.git("update-ref", "refs/pull/1/head", second)

    def a(fragment):
        return contents(add(build, f"{upstream.url}#{fragment} /src/"))["src/a"]

    assert [a(name) for name in ("main", "light", "heavy", first, "refs/tags/heavy", "HEAD", "")] == [b"a"] * 7
    assert [a(name) for name in ("feature/x", second, "refs/pull/1/head", "both")] == [b"second"] * 4
    assert contents(add(build, f"{upstream.url}#main:sub /src/")) == {"src/b": b"b", "src/tool": b"#!"}
    assert contents(add(build, f"{upstream.url}#:sub/ /")) == {"b": b"b", "tool": b"#!"}
    for fragment, reason in (("none", "has no 'none'"), ("main:none", "has no directory 'none'"), ("0" * 40, "0000")):
        with pytest.raises(BuildError, match=reason):
            a(fragment)


def test_options_of_copies(build, upstream):
    layer = add(build, f"--chown=5:6 --chmod=700 --exclude=sub/t* {upstream.url} /src/")
    assert sorted(members(layer)) == ["src", "src/a", "src/link", "src/sub", "src/sub/b"]
    assert (members(layer)["src/a"].mode, members(layer)["src/a"].uid, members(layer)["src/a"].gid) == (0o700, 5, 6)


def test_a_commit_that_is_here_is_not_fetched_again(build, web, upstream):
    first = add(build, f"{upstream.url} /src/")
    web.asked.clear()
    assert add(build, f"{upstream.url} /src/").digest == first.digest
    assert all("git-upload-pack" in path for path in web.paths())
    assert build.cached() == [2]
    commit = upstream.git("rev-parse", "HEAD")
    add(build, f"{upstream.url}#{commit} /src/")
    web.asked.clear()
    add(build, f"{upstream.url}#{commit} /src/")  # whose commit it is can be asked of nobody else
    assert (web.asked, build.cached()) == ([], [2])
    upstream.commit({"a": "new"})
    assert contents(add(build, f"{upstream.url} /src/"))["src/a"] == b"new"


def test_checksum(build, upstream):
    commit = upstream.git("rev-parse", "HEAD")
    upstream.git("tag", "v1")
    assert contents(add(build, f"--checksum={commit} {upstream.url}#v1 /s/"))["s/a"] == b"a"
    assert contents(add(build, f"--checksum={commit[:12]} {upstream.url}#v1 /s/"))["s/a"] == b"a"
    upstream.commit({"a": "moved"})
    upstream.git("tag", "-f", "v1")
    with pytest.raises(BuildError, match=f"not {commit} as --checksum says"):
        add(build, f"--checksum={commit} {upstream.url}#v1 /s/")
    with pytest.raises(DockerfileError, match="the commit's id"):
        add(build, f"--checksum=sha256:{'0' * 64} {upstream.url} /s/")


def test_keep_git_dir(build, upstream, tmp_path):
    layer = add(build, f"--keep-git-dir=true {upstream.url} /src/")
    with layer.tar() as stream:
        subprocess.run(["tar", "x", "-C", tmp_path], stdin=stream, check=True, timeout=60)
    work = tmp_path / "src"
    environment = {**WHO, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}

    def git(*words):
        done = subprocess.run(
            ["git", *words], cwd=work, env=environment, check=True, text=True, capture_output=True, timeout=60
        )
        return done.stdout.strip()

    assert git("status", "--porcelain") == ""
    assert git("rev-parse", "HEAD") == upstream.git("rev-parse", "HEAD")
    assert git("remote", "get-url", "origin") == upstream.url
    git("fsck", "--strict")
    assert not any((work / ".git/hooks").glob("*"))
    assert contents(add(build, f"--keep-git-dir=true {upstream.url}#main:sub /src/")).keys() == {"src/b", "src/tool"}


def test_keeping_it_gives_the_same_layer_twice(build, upstream):
    lines = [f"--keep-git-dir=true {upstream.url} /src/"] * 2
    digests = [build(f"FROM scratch\nADD {line}\n", no_cache=True).layers[0].digest for line in lines]
    assert digests[0] == digests[1]


def test_attributes_of_the_repository_leave_nothing_out(build, upstream):
    upstream.commit({".gitattributes": "a export-ignore\nsub export-ignore\nv export-subst\n", "v": "$Format:%H$"})
    found = contents(add(build, f"{upstream.url} /"))
    assert found["a"] == b"a"
    assert found["sub/b"] == b"b"
    assert found["v"] == b"$Format:%H$"


# -- submodules


def test_submodules_come_at_their_commits(build, web, upstream, tmp_path):
    inner = Upstream(tmp_path / "served", web, "inner")
    inner.commit({"i": "first"})
    upstream.git("submodule", "--quiet", "add", inner.url, "deep/inner")
    upstream.git("config", "-f", ".gitmodules", "submodule.deep/inner.url", "../inner.git")
    upstream.commit({})
    inner.commit({"i": "second"})
    assert contents(add(build, f"{upstream.url} /s/"))["s/deep/inner/i"] == b"first"
    assert contents(add(build, f"{upstream.url}#main:sub /s/")).keys() == {"s/b", "s/tool"}
    assert contents(add(build, f"{upstream.url}#main:deep /s/")) == {"s/inner/i": b"first"}


@pytest.mark.parametrize(
    "url", ["file:///etc", "/etc", "ext::sh -c touch%20/tmp/x", "-oProxyCommand=x", "fd::3", "ssh://-oX=y/p"]
)
def test_a_submodule_of_another_kind_is_refused(build, upstream, url):
    commit = upstream.git("rev-parse", "HEAD")
    (upstream.path / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = "{url}"\n')
    upstream.git("add", ".gitmodules")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commit},x")
    upstream.git("commit", "-q", "-m", "evil")
    with pytest.raises(BuildError, match=r"as a submodule|no URL of a repository"):
        add(build, f"{upstream.url} /s/")


def test_submodules_without_end(build, upstream):
    """A repository cannot name its own commit, but a branch of commits can be as deep as one likes."""
    for _ in range(10):
        commit = upstream.git("rev-parse", "HEAD")
        (upstream.path / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = x\n\turl = {upstream.url}\n')
        upstream.git("add", ".gitmodules")
        upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commit},x")
        upstream.git("commit", "-q", "-m", "deeper", "--allow-empty")
    with pytest.raises(BuildError, match="more submodules than are allowed"):
        add(build, f"{upstream.url} /s/")


# -- hostile repositories


def test_links_of_a_repository_lead_nowhere(build, upstream, tmp_path):
    (tmp_path / "secret").write_text("canary of the host")
    upstream.commit({"out": f"-> {tmp_path}", "up": "-> ../../../../..", "etc": "-> /etc"})
    layer = add(build, f"{upstream.url} /s/")
    assert members(layer)["s/out"].linkname == str(tmp_path)
    assert b"canary" not in b"".join(contents(layer).values())
    for directory in ("out", "etc", "up/etc"):
        with pytest.raises(BuildError, match=r"no such file|no directory|Too many levels"):
            add(build, f"{upstream.url}#main:{directory} /s/")


def test_a_tree_with_impossible_names(build, upstream):
    blob = upstream.git("hash-object", "-w", "a")
    for name in ("..", "."):
        inner = upstream.git("mktree", input=f"100644 blob {blob}\tevil\n")
        upstream.tree_with(f"040000 tree {inner}\t{name}\n")
        with pytest.raises(BuildError):
            add(build, f"{upstream.url} /s/")
    inner = upstream.git("mktree", input=f"100644 blob {blob}\tconfig\n")
    upstream.tree_with(f"040000 tree {inner}\t.git\n")
    with pytest.raises(BuildError, match=r"invalid path .\.git/config|of its own"):
        add(build, f"--keep-git-dir=true {upstream.url} /s/")


def test_hooks_filters_and_the_users_configuration_do_not_run(build, upstream, tmp_path, monkeypatch):
    canary = tmp_path / "canary"
    home = tmp_path / "home"
    (home / "hooks").mkdir(parents=True)
    (home / "hooks/post-checkout").write_text(f"#!/bin/sh\ntouch {canary}\n")
    (home / "hooks/reference-transaction").write_text(f"#!/bin/sh\ntouch {canary}\n")
    for hook in (home / "hooks").iterdir():
        hook.chmod(0o755)
    (home / ".gitconfig").write_text(
        f"[core]\n\thooksPath = {home}/hooks\n\tfsmonitor = touch {canary}\n"
        f'[filter "x"]\n\tsmudge = touch {canary}\n\trequired\n[init]\n\ttemplateDir = {home}\n'
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_SSH_COMMAND", f"touch {canary}")
    upstream.commit({".gitattributes": "* filter=x\n"})
    assert contents(add(build, f"--keep-git-dir=true {upstream.url} /s/"))["s/a"] == b"a"
    assert not canary.exists()


@pytest.mark.parametrize(
    "url",
    [
        "https://h/r.git#--upload-pack=x",
        "https://h/r.git#-x",
        "https://h/r.git#a..b",
        "https://h/r.git#a^{tree}",
        "https://h/r.git#a b",
        "https://h/r.git#main:../x",
        "https://h/r.git#main:a/../../x",
        "ssh://-oProxyCommand=x/r.git",
        "ssh://u@-oProxyCommand=x/r.git",
        "git://-x/r.git",
        "https://-x/r.git",
    ],
)
def test_what_may_not_be_given_to_git(build, url):
    with pytest.raises(ContextError, match=r"no URL of a repository|cannot name|leads out"):
        Repository.of(url)
    with pytest.raises((BuildError, DockerfileError)):
        build(f'FROM scratch\nADD ["{url}", "/s/"]\n')


@pytest.mark.parametrize(
    "query", ["x", "x=y", "ref=a&tag=b", "ref=a&ref=b", "checksum=beef", "checksum=abcdef1&commit=abcdef1", "ref=a#b"]
)
def test_queries_that_say_nothing(query):
    with pytest.raises(ContextError, match=r"takes one of ref="):
        Repository.of(f"https://h/r.git?{query}")


def test_a_commit_is_what_the_query_says(build, upstream):
    commit = upstream.commit({"a": "new"})
    assert contents(add(build, f"{upstream.url}?branch=main&checksum={commit[:12]} /s/"))["s/a"] == b"new"
    assert contents(add(build, f"{upstream.url}?subdir=sub&commit={commit} /s/"))["s/b"] == b"b"
    with pytest.raises(BuildError, match=f"refs/heads/main is the commit {commit}, not 0123456 as its URL says"):
        add(build, f"{upstream.url}?branch=main&checksum=0123456 /s/")
    with pytest.raises(BuildError, match="has no 'refs/tags/main'"):
        add(build, f"{upstream.url}?tag=main /s/")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/a.git", ("https://h/a.git", "", "")),
        ("http://u:p@h:8/a.git#v:d/", ("http://u:p@h:8/a.git", "v", "d")),
        ("git@h:a/b", ("git@h:a/b", "", "")),
        ("git@h:a/b.git#x", ("git@h:a/b.git", "x", "")),
        ("deploy@h.example:b.git#:d", ("deploy@h.example:b.git", "", "d")),
        ("ssh://git@h/a#x/y:d", ("ssh://git@h/a", "x/y", "d")),
        ("git://h/a", ("git://h/a", "", "")),
        ("https://h/a", None),
        ("https://h/a.git/x", None),
        ("https://h/a.git?branch=v/1&subdir=/d", ("https://h/a.git", "refs/heads/v/1", "d")),
        ("ssh://git@h/a?tag=v1", ("ssh://git@h/a", "refs/tags/v1", "")),
        ("https://h/a.git?ref=pull/4/head&subdir=a%20b", ("https://h/a.git", "pull/4/head", "a b")),
        ("https://h/a.git?commit=ABCDEF1", ("https://h/a.git", "ABCDEF1", "")),
        ("https://h/a.git?", ("https://h/a.git", "", "")),
        ("https://h/a?b=.git", None),
        ("a.git", None),
        ("./git@x", None),
        ("-u@h:x", None),
    ],
)
def test_urls(text, expected):
    found = Repository.of(text)
    assert (None if found is None else (found.remote, found.ref, found.subdir)) == expected


# -- git itself


def test_without_git_it_says_what_is_missing(build, upstream, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="git is not installed, and fetches repositories: install it"):
        add(build, f"{upstream.url} /s/")


def fake_git(monkeypatch, directory: Path, script: str) -> None:
    directory.mkdir()
    (directory / "git").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_git_that_hangs_is_ended_with_all_that_it_started(monkeypatch, tmp_path):
    fake_git(monkeypatch, tmp_path / "bin", f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    monkeypatch.setattr(running, "ASK_TIMEOUT", 2.0)
    (tmp_path / "room").mkdir()
    with pytest.raises(ContextError, match="took longer than"):
        Git(str(tmp_path / "room")).resolve(Repository("https://h/r.git"))
    pid = int((tmp_path / "pid").read_text())
    await_true(lambda: not is_alive(pid), "the death of what it started")


def test_what_git_says_is_cleaned_and_short(monkeypatch, tmp_path):
    fake_git(
        monkeypatch, tmp_path / "bin", r"yes 'noise' | head -c 1000000 >&2; printf '\033[31mfatal: no\n' >&2; exit 3"
    )
    (tmp_path / "room").mkdir()
    with pytest.raises(ContextError) as caught:
        Git(str(tmp_path / "room")).resolve(Repository("https://me:s3cret@h/r.git"))
    assert caught.value.path == "https://xxxxx:xxxxx@h/r.git"
    assert caught.value.reason.startswith("git ls-remote failed: ")
    assert len(caught.value.reason) < 500
    assert "\033" not in caught.value.reason


def test_git_gets_no_terminal_no_input_and_no_keys(monkeypatch, tmp_path):
    fake_git(monkeypatch, tmp_path / "bin", f"env > {tmp_path}/env; readlink /proc/self/fd/0 >> {tmp_path}/env; exit 1")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/the/users/agent")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/ask")
    monkeypatch.setenv("GIT_ASKPASS", "/bin/ask")
    (tmp_path / "room").mkdir()
    for agent in (None, "", "/an/agent"):
        with pytest.raises(ContextError):
            Git(str(tmp_path / "room"), agent=agent).resolve(Repository("git@h:r.git"))
        lines = (tmp_path / "env").read_text().splitlines()
        assert lines[-1] == "/dev/null"
        assert "GIT_TERMINAL_PROMPT=0" in lines
        assert "GIT_ALLOW_PROTOCOL=http:https:ssh:git" in lines
        assert not any("ASKPASS" in line for line in lines)
        agents = [line for line in lines if line.startswith("SSH_AUTH_SOCK=")]
        assert agents == ([f"SSH_AUTH_SOCK={agent}"] if agent else [])
        command = next(line for line in lines if line.startswith("GIT_SSH_COMMAND="))
        assert ("IdentityAgent=none" in command) is (agent is None)
        assert "BatchMode=yes" in command


def test_protocols_that_are_not_allowed(upstream, tmp_path):
    (tmp_path / "room").mkdir()
    with pytest.raises(ContextError, match="transport 'file' not allowed"):
        Git(str(tmp_path / "room")).resolve(Repository(f"file://{upstream.path}"))
