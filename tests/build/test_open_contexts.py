"""Contexts from elsewhere: tar streams, Dockerfiles alone, URLs, repositories; and that none reaches out of itself."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from contextlib import suppress

import pytest
import zstandard
from building import contents, members, tar_bytes

import pylxc
from pylxc.build import gathering
from pylxc.build.check import check
from pylxc.build.context import Context
from pylxc.build.opening import is_remote
from pylxc.errors import BuildError, DockerfileError, SpecError

DOCKERFILE = b"FROM scratch\nCOPY . /c/\n"
FILES = {
    "Dockerfile": DOCKERFILE,
    "a": b"A",
    "d/b": b"B",
    ".dockerignore": b"Dockerfile\n.dockerignore\nd/x\n",
    "d/x": b"X",
}
EXPECTED = {"c/a": b"A", "c/d/b": b"B"}
FORMS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstandard.compress}


@pytest.fixture
def made(engine):
    def build(context, dockerfile="Dockerfile", **options):
        if isinstance(context, bytes):
            context = io.BytesIO(context)
        if isinstance(dockerfile, bytes):
            dockerfile = io.BytesIO(dockerfile)
        image = pylxc.Image.build(context, dockerfile, engine=engine, **options)
        assert list((engine.root / "staging").iterdir()) == []
        return image

    return build


def files_of(image):
    return contents(image.layers[0])


# -- tar streams


@pytest.mark.parametrize("form", FORMS)
def test_a_tar_stream(made, form):
    assert files_of(made(FORMS[form](tar_bytes(FILES)))) == EXPECTED


def test_a_stream_is_the_same_as_its_directory(made, tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "dir" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o640)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    assert made(tar_bytes(FILES)).layers[0].digest == made(tmp_path / "dir").layers[0].digest


def test_a_pipe_that_gives_little_at_a_time(made):
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            super().__init__()
            self.left = io.BytesIO(gzip.compress(tar_bytes(FILES)))

        def read(self, size=-1):
            return self.left.read(min(size, 7) if size >= 0 else 7)

    assert files_of(made(Slow())) == EXPECTED


def test_another_dockerfile_in_it(made):
    data = tar_bytes({**FILES, "d/Other": b"FROM scratch\nCOPY a /x\n", "d/Other.dockerignore": b"d\n"})
    assert files_of(made(data, "d/Other")) == {"x": b"A"}
    with pytest.raises(DockerfileError, match="no such file"):
        made(data, "None")
    assert files_of(made(data, b"FROM scratch\nCOPY d/b /y\n")) == {"y": b"B"}


def test_a_dockerfile_of_the_callers_by_absolute_path(made, tmp_path):
    (tmp_path / "Mine").write_bytes(b"FROM scratch\nCOPY a /mine\n")
    assert files_of(made(tar_bytes(FILES), tmp_path / "Mine")) == {"mine": b"A"}


@pytest.mark.parametrize("name", ["../x", "../../../../../../etc/passwd", "d/../../x"])
def test_a_dockerfile_beside_the_staging_is_not_looked_for(made, name):
    with pytest.raises(DockerfileError, match="leads out of the context"):
        made(tar_bytes(FILES), name)


def hostile(*entries: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, link in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            data = b"evil" if kind == tarfile.REGTYPE else b""
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(DOCKERFILE)
        archive.addfile(entry, io.BytesIO(DOCKERFILE))
    return out.getvalue()


def test_an_archive_writes_nothing_outside(made, tmp_path, engine):
    outside = tmp_path / "outside"
    outside.mkdir()
    for entries in (
        [("../../evil", tarfile.REGTYPE, "")],
        [("out", tarfile.SYMTYPE, str(outside)), ("out/evil", tarfile.REGTYPE, "")],
        [("up", tarfile.SYMTYPE, "../../.."), ("up/evil", tarfile.REGTYPE, "")],
        [("hard", tarfile.LNKTYPE, "../../pylxc.db")],
        [(str(outside / "evil"), tarfile.REGTYPE, "")],
    ):
        with suppress(SpecError):
            made(hostile(*entries))
    assert list(outside.iterdir()) == []
    assert all(engine.root / "layers" in path.parents for path in tmp_path.rglob("evil"))
    assert list((engine.root / "staging").iterdir()) == []


def test_links_of_an_archive_read_nothing_outside(made, tmp_path):
    (tmp_path / "secret").write_text("canary of the host")
    for target in (str(tmp_path / "secret"), "/etc/passwd", "../../../../../../../../etc/passwd"):
        data = tar_bytes({"Dockerfile": b"FROM scratch\nCOPY l /x\n", "l": f"-> {target}"})
        with pytest.raises(BuildError, match="no such file"):
            made(data)
        with pytest.raises(DockerfileError, match="no such file"):
            made(tar_bytes({"Dockerfile": f"-> {target}"}))


def test_an_archive_belongs_to_root_and_has_no_devices(made):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind in (("null", tarfile.CHRTYPE), ("f", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid, entry.devmajor, entry.devminor = kind, 1234, 5678, 1, 3
            archive.addfile(entry)
    found = members(made(out.getvalue(), DOCKERFILE).layers[0])
    assert (found["c/f"].uid, found["c/f"].gid) == (0, 0)
    assert "c/null" not in found


@pytest.mark.parametrize("cut", [600, 1500])
def test_a_damaged_archive(made, cut):
    with pytest.raises(SpecError, match=r"context='-': .*(damaged|ends too early)"):
        made(tar_bytes({"Dockerfile": DOCKERFILE, "f": b"x" * 4000})[:cut])
    with pytest.raises(SpecError, match="context='-': damaged gzip data"):
        made(gzip.compress(tar_bytes({"Dockerfile": DOCKERFILE, "f": os.urandom(4000)}))[:cut])


def test_a_bomb(made, monkeypatch):
    monkeypatch.setattr(gathering, "UNPACKED_LIMIT", 1 << 20)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("zeros")
        entry.size = 1 << 26
        archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    with pytest.raises(SpecError, match="unpacks to more than is allowed"):
        made(out.getvalue())


# -- a Dockerfile alone


def test_a_stream_that_is_a_dockerfile(made):
    image = made(b"FROM scratch\nLABEL a=b\nCOPY <<f /\nhere\nf\n")
    assert files_of(image) == {"f": b"here\n"}
    with pytest.raises(BuildError, match="no such file"):
        made(b"FROM scratch\nCOPY Dockerfile /\n")  # there are no files at all
    with pytest.raises(DockerfileError, match="-:2:1") as caught:
        made(b"FROM scratch\nRUM true\n")
    assert caught.value.path == "-"


@pytest.mark.parametrize("data", [b"", bytes(100), b"x" * (5 << 20)])
def test_a_stream_that_is_nothing(made, data):
    with pytest.raises((SpecError, DockerfileError)):
        made(data)


def test_a_dockerfile_from_a_stream_for_a_directory(build, made):
    path = build.write({"a": "A", "b": "B", ".dockerignore": "b\n", "-.dockerignore": "a\n"})
    assert files_of(made(path, b"FROM scratch\nCOPY ? /c/\n")) == {"c/a": b"A"}
    with pytest.raises(SpecError, match="another one is given"):
        made(b"FROM scratch\n", b"FROM scratch\n")


def test_a_text_stream_will_do(build):
    image = pylxc.Image.build(build.files.path, io.StringIO("FROM scratch\nLABEL a=é\n"), engine=build.engine)
    assert image.config.labels == {"a": "é"}


# -- URLs


def test_a_tarball_and_a_dockerfile_on_the_web(made, web):
    url = web.put("/context.tar.gz", gzip.compress(tar_bytes(FILES)))
    assert files_of(made(url)) == EXPECTED
    assert made(web.put("/Dockerfile", b"FROM scratch\nLABEL x=y\n")).config.labels == {"x": "y"}
    with pytest.raises(SpecError, match="answers with status 404"):
        made(f"{web.url}/none")
    with pytest.raises(SpecError) as caught:
        made(f"{web.url.replace('//', '//me:s3cret@')}/none")
    assert "s3cret" not in str(caught.value)


# -- repositories


def test_a_repository(made, upstream):
    more = {"Dockerfile": DOCKERFILE.decode(), "sub/Dockerfile": "FROM scratch\nCOPY b /only\n"}
    upstream.commit({**more, ".dockerignore": "l*\nDockerfile\n.dockerignore\nsub/tool\n"})
    assert files_of(made(upstream.url)).keys() == {"c/a", "c/sub/b", "c/sub/Dockerfile"}
    assert files_of(made(f"{upstream.url}#main:sub")) == {"only": b"b"}
    assert files_of(made(upstream.url, b"FROM scratch\nCOPY a /\n")) == {"a": b"a"}
    with pytest.raises(SpecError, match="has no 'gone'"):
        made(f"{upstream.url}#gone")
    with pytest.raises(SpecError, match="has no directory 'gone'"):
        made(f"{upstream.url}#main:gone")
    with pytest.raises(SpecError, match="leads out of the repository"):
        made(f"{upstream.url}#main:../x")
    with pytest.raises(SpecError, match="not a directory"):
        made(f"{upstream.url}#main:a")


def test_a_repository_whose_directory_is_a_link(made, upstream, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL of=host\n")
    upstream.commit({"out": f"-> {tmp_path}", "up": "-> ../../../.."})
    for name in ("out", "up"):
        with pytest.raises((SpecError, DockerfileError)):
            made(f"{upstream.url}#main:{name}")


# -- by name


def test_named_contexts_from_elsewhere(made, web, upstream):
    upstream.commit({"sub/f": "of git", ".dockerignore": "a\n"})
    contexts = {
        "web": web.put("/context.tar.gz", gzip.compress(tar_bytes(FILES))),
        "git": upstream.url,
        "base": f"{upstream.url}#main:sub",
    }
    text = b"FROM base\nCOPY --from=web . /web/\nCOPY --from=git . /git/\n"
    image = made(text, contexts=contexts)
    found = [contents(layer) for layer in image.layers]
    assert found[0]["f"] == b"of git"
    assert found[1] == {f"web/{name[2:]}": data for name, data in EXPECTED.items()}
    assert found[2]["git/sub/f"] == b"of git"
    assert "git/a" not in found[2]
    assert made(text, contexts=contexts).id == image.id


def test_a_named_context_that_does_not_come(made, web, upstream):
    text = b"FROM scratch\nCOPY --from=x . /\n"
    with pytest.raises(SpecError, match="status 404"):
        made(text, contexts={"x": f"{web.url}/none"})
    with pytest.raises(SpecError, match="neither a tar archive nor a repository"):
        made(text, contexts={"x": web.put("/text", b"FROM scratch\n")})
    with pytest.raises(SpecError, match="has no 'gone'") as caught:
        made(text, contexts={"x": f"{upstream.url}#gone"})
    assert caught.value.option == "contexts"
    with pytest.raises(SpecError, match="not a directory") as caught:
        made(text, contexts={"x": f"{upstream.url}#main:a"})
    assert caught.value.value == f"x={upstream.url}#main:a"


def test_what_is_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "github.com/x").mkdir(parents=True)
    elsewhere = ("https://h/x", "http://h/x.git#a", "git@h:x", "ssh://h/x", "github.com/y/z", "git://h/x")
    assert all(map(is_remote, elsewhere))
    assert not any(map(is_remote, (".", "x", "/x", "github.com/x", "x.git")))


def test_check_takes_the_same_contexts(engine, web):
    found = check(io.BytesIO(b"from scratch as A\nLABEL a=b\n"), engine=engine)
    assert {warning.rule for warning in found} >= {"StageNameCasing"}
    with pytest.raises(SpecError, match="give the engine"):
        check(io.BytesIO(b"FROM scratch\n"))


def test_a_directory_is_opened_in_place(build):
    path = build.write({"Dockerfile": "FROM scratch\n"})
    assert Context.open(path, "-", b"FROM other\n").dockerfile_bytes == b"FROM other\n"
