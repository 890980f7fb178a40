"""ADD of URLs, from a server on loopback: names, modes, times, checksums, redirects, and what need not be fetched."""

from __future__ import annotations

import gzip
import hashlib
import logging

import pytest
from building import contents, members, tar_bytes
from webserver import Page

from pylxc.build import fetch as fetching
from pylxc.build.confined import ContextError
from pylxc.build.fetch import fetch
from pylxc.build.urls import file_name, shown
from pylxc.errors import BuildError, DockerfileError
from pylxc.registry.settings import Settings

BODY = b"what the server has"
SHA = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
FAST = Settings(backoff=0.01, retries=2, timeout=2)


def add(build, line, **options):
    return build(f"FROM scratch\n{line}\n", **options).layers[0]


# -- what lands where


@pytest.mark.parametrize(
    ("path", "destination", "expected"),
    [
        ("/f.txt", "/d/", "d/f.txt"),
        ("/f.txt", "/x", "x"),
        ("/a/f.txt?query=1/2", "/d/", "d/f.txt"),
        ("/a/f.txt", "/", "f.txt"),
        ("/a/with%20blank%2Fx", "/d/", "d/x"),
        ("/a/dir/", "/d/", "d/dir"),
        ("/%5Ba%5D*", "/d/", "d/[a]*"),
        ("/", "/x", "x"),
    ],
)
def test_names(build, web, path, destination, expected):
    web.put(path.partition("?")[0], BODY)
    layer = add(build, f"ADD {web.url}{path} {destination}")
    assert contents(layer) == {expected: BODY}
    entry = members(layer)[expected]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (0o600, 0, 0, 0)


@pytest.mark.parametrize("path", ["/", "/..", "/a/%2e%2e", "/.", ""])
def test_a_url_without_a_name(build, web, path):
    web.put(path or "/", BODY)
    with pytest.raises(BuildError, match="the URL names no file: write the file's name"):
        add(build, f"ADD {web.url}{path} /d/")
    assert web.asked == []


def test_into_a_directory_of_the_image(build, web):
    web.put("/f", BODY)
    image = build(f"FROM scratch\nWORKDIR /d\nADD {web.url}/f /d\n")
    assert contents(image.layers[1]) == {"d/f": BODY}


def test_the_facts_of_a_file(build, web, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2000000000")  # what is later than the base is clamped
    web.put("/f", BODY, headers={"Last-Modified": "Sun, 09 Sep 2001 01:46:40 GMT"})
    layer = add(build, f"ADD --chmod=4755 --chown=7:8 {web.url}/f /x")
    entry = members(layer)["x"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (0o4755, 7, 8, 1_000_000_000)
    web.put("/g", BODY, headers={"Last-Modified": "no date"})
    assert members(add(build, f"ADD --chmod=u+x {web.url}/g /x"))["x"].mode == 0o700


def test_several_sources_in_their_order(build, web):
    build.write({"a": "local a", "b": "local b"})
    web.put("/a", "remote a")
    web.put("/c", "remote c")
    layer = add(build, f"ADD b {web.url}/a a {web.url}/c /d/")
    assert contents(layer) == {"d/a": b"local a", "d/b": b"local b", "d/c": b"remote c"}
    layer = add(build, f"ADD a {web.url}/a <<c /d/\ninline\nc")
    assert contents(layer) == {"d/a": b"remote a", "d/c": b"inline\n"}
    with pytest.raises(BuildError, match="must end in '/'"):
        add(build, f"ADD a {web.url}/a /x")


def test_archives_are_unpacked_only_when_asked_for(build, web):
    archive = gzip.compress(tar_bytes({"in/side": b"x"}), mtime=0)
    web.put("/a.tgz", archive)
    assert contents(add(build, f"ADD {web.url}/a.tgz /d/")) == {"d/a.tgz": archive}
    assert contents(add(build, f"ADD --unpack {web.url}/a.tgz /d/")) == {"d/in/side": b"x"}
    web.put("/text", BODY)
    assert contents(add(build, f"ADD --unpack=true {web.url}/text /d/")) == {"d/text": BODY}


def test_variables_and_json(build, web):
    web.put("/v1/f", BODY)
    assert contents(add(build, f'ARG V=1\nADD ["{web.url}/v$V/f", "/x y"]')) == {"x y": BODY}


# -- checksums


def test_checksum(build, web):
    url = web.put("/f", BODY)
    for name in ("sha256", "sha384", "sha512"):
        value = hashlib.new(name, BODY).hexdigest()
        assert contents(add(build, f"ARG C={value}\nADD --checksum={name}:$C {url} /{name}")) == {name: BODY}


def test_another_file_than_was_meant(build, web):
    url = web.put("/f", b"something else")
    before = web.put("/g", BODY)
    with pytest.raises(BuildError, match=f"has the checksum sha256:[0-9a-f]*, not {SHA}: it is another file"):
        add(build, f"ADD --checksum={SHA} {url} /x")
    with pytest.raises(BuildError, match="not sha512:"):
        add(build, f"ADD --checksum=sha512:{'0' * 128} {before} /x")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ADD --checksum=md5:0 http://h/f /x", "give sha256: and 64"),
        (f"ADD --checksum={SHA.upper()} http://h/f /x", "give sha256: and 64"),
        ("ADD --checksum=sha256:0 http://h/f /x", "give sha256: and 64"),
        (f"ADD --checksum={SHA} f /x", "goes with a URL"),
        (f"ADD --checksum={SHA} http://h/f http://h/g /x/", "one source"),
        (f"ADD --checksum={SHA} http://h/f.git /x/", "the commit's id"),
        ("COPY http://h/f /x", "COPY takes no URL"),
        ("COPY git@h:f /x", "COPY takes no URL"),
        ("ADD ftp://h/f /x", "ftp:// is not fetched"),
        ("ADD file:///etc/passwd /x", "file:// is not fetched"),
        ("ENV U=file:///etc/passwd\nADD $U /x", "file:// is not fetched"),
    ],
)
def test_mistakes_show_before_anything_is_fetched(build, line, reason):
    with pytest.raises(DockerfileError, match=reason):
        add(build, line)


# -- the cache


def test_what_a_checksum_names_is_not_asked_for_again(build, web):
    url = web.put("/f", BODY)
    first = add(build, f"ADD --checksum={SHA} {url} /x")
    web.asked.clear()
    assert add(build, f"ADD --checksum={SHA} {url} /x").digest == first.digest
    assert (web.asked, build.cached()) == ([], [2])


def test_what_has_not_changed_is_not_fetched_again(build, web):
    url = web.put("/f", BODY, headers={"ETag": '"one"'})
    first = add(build, f"ADD {url} /x")
    assert add(build, f"ADD {url} /x").digest == first.digest
    assert build.cached() == [2]
    assert [headers.get("If-None-Match") for _, headers in web.asked] == [None, '"one"']
    # Another step needs the file itself.
    assert contents(add(build, f"ADD {url} /other")) == {"other": BODY}
    web.put("/f", "new", headers={"ETag": '"two"'})
    assert contents(add(build, f"ADD {url} /x")) == {"x": b"new"}


def test_the_content_counts_and_not_the_time_or_the_validator(build, web):
    url = web.put("/f", BODY, headers={"Last-Modified": "Sun, 09 Sep 2001 01:46:40 GMT"})
    first = add(build, f"ADD {url} /x")
    web.put("/f", BODY, headers={"Last-Modified": "Mon, 10 Sep 2001 01:46:40 GMT", "ETag": '"x"'})
    assert add(build, f"ADD {url} /x").digest == first.digest
    assert web.asked[1][1].get("If-Modified-Since") == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert build.cached() == [2]


def test_options_are_in_the_key(build, web):
    url = web.put("/f", gzip.compress(tar_bytes({"a": b"x"}), mtime=0))
    lines = (f"{url} /x/", f"--chmod=644 {url} /x/", f"--chown=1 {url} /x/", f"--unpack {url} /x/", f"{url} /x")
    assert len({add(build, f"ADD {line}").digest for line in lines}) == len(lines)


def test_a_server_that_lies_about_what_has_not_changed(build, web):
    url = web.put("/f", BODY, headers={"ETag": '"one"'})
    add(build, f"ADD {url} /x")
    web.pages["/f"] = [Page(b"", 304), Page(b"another", 200)]
    with pytest.raises(BuildError, match="another file than was meant"):
        add(build, f"ADD {url} /y")
    web.pages["/f"] = Page(b"", 304)
    with pytest.raises(BuildError, match="status 304"):
        add(build, f"ADD {url}?unknown /y")


# -- the way there


def test_redirects(build, web):
    web.put("/f", BODY)
    web.put("/a", status=302, headers={"Location": "/b"})
    web.put("/b", status=307, headers={"Location": f"{web.other}/f"})
    assert contents(add(build, f"ADD {web.url}/a /d/")) == {"d/a": BODY}  # the name is the one that was asked for
    web.put("/loop", status=301, headers={"Location": "/loop"})
    with pytest.raises(BuildError, match="redirected more than 5 times"):
        add(build, f"ADD {web.url}/loop /d/")
    for target in ("file:///etc/passwd", "ftp://h/x", "gopher://h/"):
        web.put("/evil", status=302, headers={"Location": target})
        with pytest.raises(BuildError, match="no web address"):
            add(build, f"ADD {web.url}/evil /x")


def test_a_password_goes_to_its_own_server_and_nowhere_else(build, web, caplog):
    caplog.set_level(logging.DEBUG)
    web.put("/f", BODY)
    web.put("/a", status=302, headers={"Location": f"{web.other}/f"})
    url = web.url.replace("http://", "http://me:s3cr%21t@")
    image = build(f"FROM scratch\nADD {url}/a /d/\n")
    assert [headers.get("Authorization") for _, headers in web.asked] == ["Basic bWU6czNjciF0", None]
    assert "xxxxx:xxxxx@127.0.0.1" in image.history()[0].created_by
    assert all("s3cr" not in line.created_by for line in image.history())
    with pytest.raises(BuildError) as caught:
        build(f"FROM scratch\nADD {url}/none /d/\n")
    assert "s3cr" not in caught.value.reason
    assert "s3cr" not in caplog.text
    database = (build.engine.root / "pylxc.db").read_bytes() + (build.engine.root / "pylxc.db-wal").read_bytes()
    assert b"s3cr" not in database


def test_failures_name_the_url_and_what_to_do(build, web):
    with pytest.raises(
        BuildError, match=r"http://127.0.0.1:\d+/none: answers with status 404: check the URL"
    ) as caught:
        add(build, f"ADD {web.url}/none /x")
    assert (caught.value.step, caught.value.line) == (2, 2)
    web.close()
    with pytest.raises(BuildError, match=r"cannot be fetched: .*check the URL and the network"):
        add(build, f"ADD {web.url}/f /x")


def test_what_passes_is_tried_again(web, tmp_path):
    url = web.put("/f")
    web.pages["/f"] = [Page(status=503), Page(BODY[:5], truncated=True), Page(BODY)]
    assert fetch(url, str(tmp_path / "f"), settings=FAST).digest == SHA
    assert (tmp_path / "f").read_bytes() == BODY
    web.pages["/f"] = Page(status=500)
    with pytest.raises(ContextError, match="answers with status 500; try later"):
        fetch(url, str(tmp_path / "g"), settings=FAST)
    web.pages["/f"] = Page(BODY[:5], truncated=True)
    with pytest.raises(ContextError, match="cannot be fetched"):
        fetch(url, str(tmp_path / "g"), settings=FAST)


def test_no_more_than_is_allowed(web, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", 10)
    url = web.put("/f", BODY)
    with pytest.raises(ContextError, match="has 19 bytes, more than the 10"):
        fetch(url, str(tmp_path / "f"), settings=FAST)
    assert not (tmp_path / "f").exists()
    web.put("/bomb", gzip.compress(bytes(1 << 20)), headers={"Content-Encoding": "gzip"})
    with pytest.raises(ContextError, match=r"more than the 10|encoded bodies: refused"):
        fetch(f"{web.url}/bomb", str(tmp_path / "f"), settings=FAST)


@pytest.mark.parametrize("url", ["http://", "http:///f", "http://h:port/f", "https://h\n/f", "HTTP://[::1/f"])
def test_no_urls(url, tmp_path):
    with pytest.raises(ContextError, match="is no URL"):
        fetch(url, str(tmp_path / "f"), settings=FAST)


def test_texts_of_urls():
    assert shown("https://u:p@h/x") == "https://xxxxx:xxxxx@h/x"
    assert shown("https://h/x@y") == "https://h/x@y"
    assert [file_name(f"http://h{path}") for path in ("", "/", "/a", "/a/b/", "/..", "/a%00b", "/%2e")] == [
        "", "", "a", "b", "", "", "",
    ]  # fmt: skip


def test_nothing_is_left_behind(build, web):
    url = web.put("/f", BODY)
    add(build, f"ADD {url} /x")
    with pytest.raises(BuildError):
        build(f"FROM scratch\nADD {url} /y\nADD {web.url}/none /z\n")
    assert list((build.engine.root / "staging").iterdir()) == []
