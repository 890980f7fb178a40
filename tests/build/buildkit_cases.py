"""Dockerfiles that pylxc and BuildKit build alike, and the contexts they are built on.

A case's ``files`` are added to :data:`CONTEXT`. Content "-> x" is a link to x, None a directory, a pair gives the mode
as well, and a pair whose second is a text names another file that it is a hard link of.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Union

from attrs import field, frozen
from building import tar_bytes

CAPABILITY = "\x01\0\0\x02\0\4" + "\0" * 14  # cap_net_bind_service, effective and permitted (capabilities(7))

Content = Union[str, bytes, None, "tuple[str | bytes | None, int]"]

APPLETS = (
    *("sh", "ls", "cat", "echo", "mkdir", "rm", "rmdir", "touch", "chmod", "chown", "ln", "mv", "cp", "id", "env"),
    *("pwd", "test", "true", "false", "sort", "grep", "mkfifo", "stat", "tr", "head", "find", "printf", "sed"),
)

CONTEXT: dict[str, Content] = {
    "root/bin/busybox": ("busybox", 0o755),
    **{f"root/bin/{name}": "-> busybox" for name in APPLETS},
    "root/etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001:user:/home:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
    ),
    "root/etc/group": "root:x:0:\ngroup:x:50:\nusers:x:1001:\nnogroup:x:65534:\nmore:x:60:user\n",
    **{f"root/{name}": None for name in ("dev", "proc", "sys", "home", "var/lib")},
    "root/tmp": (None, 0o1777),
    "root/data/in": "-> /home",
    "root/data/out": "-> ../../../home",
    "root/data/here": "-> sub",
    "root/data/sub/kept": "kept\n",
    "root/data/loose": ("loose\n", 0o666),
    "a": "a\n",
    "b.txt": "b\n",
    "c.txt": ("c\n", 0o600),
    "run.sh": ("#!/bin/sh\necho run\n", 0o755),
    "dir/one": "one\n",
    "dir/two.txt": ("two\n", 0o640),
    "dir/sub/three": "three\n",
    "dir/sub/link": "-> three",
    "dir/empty": (None, 0o700),
    "dir/up": "-> ../a",
    "names/with space": "space\n",
    "names/[x]": "bracket\n",
    "names/x": "x\n",
    "to-dir": "-> dir",
    "to-file": "-> a",
}

BASES = {
    "base": "FROM scratch\nCOPY root/ /\n",
    "parent": (
        "FROM base\nENV PARENT=env PATH=/opt/bin:/bin\nLABEL parent=label both=parent\nEXPOSE 1/udp 70\nVOLUME /vol\n"
        'WORKDIR /start/here\nUSER user\nENTRYPOINT ["parent"]\nCMD ["parent-cmd"]\nSTOPSIGNAL SIGINT\n'
        "HEALTHCHECK --interval=9s --retries=7 CMD parent check\nMAINTAINER parent\n"
    ),
    "waiting": (
        "FROM base\nARG OUT=x\nONBUILD ENV TRIGGER=1\nONBUILD COPY a /from-trigger\nONBUILD RUN echo $TRIGGER > /ran\n"
        'ONBUILD WORKDIR /trigger\nONBUILD CMD ["trigger"]\n'
    ),
    "shelled": 'FROM base\nSHELL ["/bin/sh", "-e", "-c"]\n',
}


@frozen
class Case:
    """One Dockerfile, and what its context has besides :data:`CONTEXT`.

    Left out is what BuildKit does otherwise since: JSON with more behind it (it was the JSON, and is the shell form),
    an ARG that names one of its own line (it was not set yet), several sources without a slash at the end (it was let
    through). And where pylxc says more, or less: --chown with a name that the image does not have (BuildKit takes
    root), a directory over a file within a copied directory (BuildKit refuses).
    """

    name: str
    text: str | bytes
    files: dict[str, Content] = field(factory=dict)
    args: dict[str, str] = field(factory=dict)


def capable_tar() -> bytes:
    """Return an archive of a file that has a capability."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("f")
        entry.mode, entry.pax_headers = 0o755, {"SCHILY.xattr.security.capability": CAPABILITY}
        archive.addfile(entry)
    return out.getvalue()


def case(name: str, text: str | bytes, /, files: dict[str, Content] | None = None, **args: str) -> Case:
    return Case(name, text, files or {}, args)


def on(base: str, name: str, text: str, /, files: dict[str, Content] | None = None, **args: str) -> Case:
    return case(name, f"FROM {base}\n{text}", files, **args)


COMMANDS = (
    on("scratch", "cmd shell form", "COPY a /\nCMD echo $HOME  two"),
    on("scratch", "cmd exec form", 'COPY a /\nCMD ["echo", "$HOME", "tw o"]'),
    on("scratch", "cmd of nothing", "COPY a /\nCMD"),
    on("scratch", "entrypoint of nothing", "COPY a /\nENTRYPOINT"),
    on("base", "run of nothing", "RUN"),
    on("scratch", "cmd of an empty list", "COPY a /\nCMD []"),
    on("scratch", "cmd twice", "COPY a /\nCMD one\nCMD two"),
    on("scratch", "invalid json is a shell form", 'COPY a /\nCMD ["echo", \'x\']\nENTRYPOINT ["a",]'),
    on("scratch", "json with a number", 'COPY a /\nCMD ["echo", 1]'),
    on("scratch", "json of null", 'COPY a /\nCMD ["echo", null]'),
    on("scratch", "json with blanks around", 'COPY a /\nCMD   [ "a" ,\t"b" ]  '),
    on("scratch", "json with escapes", 'COPY a /\nCMD ["\\u00e9", "\\t", "a\\"b", "</>&"]'),
    on("scratch", "entrypoint shell form", "COPY a /\nENTRYPOINT exec  top -b"),
    on("scratch", "entrypoint after cmd in a stage", 'COPY a /\nCMD ["c"]\nENTRYPOINT ["e"]'),
    on("scratch", "entrypoint of an empty list", 'COPY a /\nCMD ["c"]\nENTRYPOINT []'),
    on("parent", "entrypoint clears what is inherited", 'ENTRYPOINT ["mine"]'),
    on("parent", "empty entrypoint clears what is inherited", "ENTRYPOINT []"),
    on("parent", "empty cmd against an inherited entrypoint", "CMD []"),
    on("parent", "cmd then entrypoint on a parent", 'CMD ["mine"]\nENTRYPOINT ["too"]'),
    on("parent", "cmd on a parent", "CMD mine"),
    on("parent", "nothing of its own", "LABEL one=1"),
    on("shelled", "a parent's shell", "RUN echo a > /home/a\nCMD b\nENTRYPOINT c"),
    on("base", "shell", 'SHELL ["/bin/sh", "-x", "-c"]\nRUN echo a > /home/a\nCMD b\nHEALTHCHECK CMD c'),
    on("base", "shell of a text", "SHELL /bin/sh -c"),
    on("scratch", "healthcheck shell form", "COPY a /\nHEALTHCHECK CMD curl -f http://localhost/ || exit 1"),
    on("scratch", "healthcheck exec form", 'COPY a /\nHEALTHCHECK --timeout=3s CMD ["check", "$me"]'),
    on(
        "scratch",
        "healthcheck with all options",
        "COPY a /\nHEALTHCHECK --interval=1m30s --timeout=500ms --start-period=1h --retries=3 CMD x",
    ),
    on("scratch", "healthcheck none", "COPY a /\nHEALTHCHECK NONE"),
    on("parent", "healthcheck none on a parent", "HEALTHCHECK NONE"),
    on("parent", "healthcheck again on a parent", "HEALTHCHECK CMD mine"),
    on("scratch", "healthcheck of too short a time", "COPY a /\nHEALTHCHECK --interval=1us CMD x"),
    on("scratch", "stopsignal", "COPY a /\nARG S=SIGQUIT\nSTOPSIGNAL $S"),
    on("scratch", "stopsignal by number", "COPY a /\nSTOPSIGNAL 9"),
    on("scratch", "stopsignal unknown", "COPY a /\nSTOPSIGNAL SIGNOTHING"),
    on("scratch", "maintainer", "COPY a /\nMAINTAINER Joe <joe@example.org> & co"),
)

METADATA = (
    on("scratch", "env forms", "COPY a /\nENV A=1 B=\"two words\" C='single $A' D=a\\ b E=\nENV F one two  three"),
    on("scratch", "env sees what was before its line", "COPY a /\nENV A=1\nENV A=2 B=$A C=${A}x\nENV D=$B$C"),
    on("scratch", "env path", "COPY a /\nENV PATH=/x:$PATH"),
    on("scratch", "env again keeps its place", "COPY a /\nENV A=1 B=2\nENV A=3"),
    on("scratch", "env default forms", "COPY a /\nENV E= A=${X:-one} B=${E:-two} C=${X:+three} D=${A:+four} F=${A:-f}"),
    on(
        "scratch",
        "env escapes",
        'COPY a /\nENV A=1\nENV B=\\$A C="\\$A" D=\'$A\' E="a\\\\b" F=$A$A G=${A}${A} H="$A\\""',
    ),
    on("scratch", "env nested default", "COPY a /\nENV B=b\nENV A=${X:-${B:-z}} C=${X:-a$B}"),
    on("scratch", "env unset name", "COPY a /\nENV A=x${UNSET}y B=$UNSET"),
    on("scratch", "env of an empty name", "COPY a /\nENV =x"),
    on("scratch", "env without a value", "COPY a /\nENV A"),
    on("scratch", "env in a comment of a continuation", "COPY a /\nENV A=1 \\\n# comment\n    B=2 \\\n\n    C=3"),
    on("scratch", "label forms", 'COPY a /\nLABEL a=1 "b c"="d e" f=\'g h\' i=\nLABEL j k l\nLABEL com.x.y=$z'),
    on("parent", "label on a parent", "LABEL both=mine"),
    on("scratch", "label over lines", 'COPY a /\nLABEL a="one \\\ntwo" \\\n  b=3'),
    on("scratch", "expose forms", "COPY a /\nEXPOSE 80 443/tcp 53/UDP 8000-8003 9000-9001/udp"),
    on("scratch", "expose with variables", "COPY a /\nENV P=80 Q=1-2\nEXPOSE $P ${Q}/udp"),
    on("scratch", "expose zero", "COPY a /\nEXPOSE 0"),
    on("scratch", "expose of a host port", "COPY a /\nEXPOSE 8080:80"),
    on("scratch", "expose of too much", "COPY a /\nEXPOSE 70000"),
    on("scratch", "expose downwards", "COPY a /\nEXPOSE 20-10"),
    on("scratch", "expose of a word", "COPY a /\nEXPOSE http"),
    on("scratch", "expose of another protocol", "COPY a /\nEXPOSE 80/icmp"),
    on("scratch", "expose sctp", "COPY a /\nEXPOSE 80/sctp"),
    on("parent", "expose on a parent", "EXPOSE 2 70/tcp"),
    on("scratch", "volume forms", 'COPY a /\nVOLUME /one /two/\nVOLUME ["/three", "/fo ur"]\nVOLUME five'),
    on("scratch", "volume invalid json", "COPY a /\nVOLUME ['/x']"),
    on("scratch", "volume variable", "COPY a /\nENV V=/v\nVOLUME $V ${V}2"),
    on("base", "volume contents are kept", "VOLUME /data/sub\nRUN echo more > /data/sub/more\nRUN rm /data/sub/kept"),
    on("parent", "volume on a parent", "VOLUME /mine"),
    on("scratch", "user forms", "COPY a /\nARG U=joe\nUSER $U:staff"),
    on("scratch", "user by number", "COPY a /\nUSER 1000:50"),
    on("scratch", "onbuild", 'COPY a /\nONBUILD RUN   echo  a\nONBUILD COPY ["a", "b"]\nonbuild cmd x'),
    on("scratch", "onbuild of onbuild", "COPY a /\nONBUILD ONBUILD RUN x"),
    on("scratch", "onbuild of from", "COPY a /\nONBUILD FROM x"),
    on("waiting", "onbuild fires", "RUN echo after >> /ran\nENV T=$TRIGGER"),
    on("waiting", "onbuild cmd yields to an own one", "CMD mine"),
    on("scratch", "arg in history", "ARG A=1\nARG B\nARG C\nCOPY a /\nLABEL l=$A$B$C", B="given"),
    case("arg before from", "ARG BASE=base\nARG V=1\nFROM $BASE\nARG V\nRUN echo $V > /home/v\nLABEL v=$V"),
    case("arg before from is not seen", "ARG V=1\nFROM base\nLABEL v=x$V"),
    case("arg before from given", "ARG BASE=none\nFROM ${BASE}\nRUN echo a > /home/v", None, BASE="base"),
    case("arg before from default", "FROM ${NONE:-base}\nLABEL a=1"),
    on("base", "arg after env wins for run", "ENV V=env\nARG V=arg\nRUN echo $V > /home/v\nLABEL v=$V"),
    on("base", "env after arg wins", "ARG V=arg\nENV V=env\nRUN echo $V > /home/v\nLABEL v=$V"),
    on("base", "arg given after env", "ENV V=env\nARG V\nRUN echo $V > /home/v\nLABEL v=$V", V="given"),
    on("base", "arg without a value after env", "ENV V=env\nARG V\nRUN echo $V > /home/v\nLABEL v=$V"),
    on("base", "arg of an empty value", 'ARG V=\nRUN echo "[${V-unset}]" > /home/v'),
    on("base", "arg without a value", 'ARG V\nRUN echo "[${V-unset}]" > /home/v'),
    on("base", "arg declared twice", "ARG V=1\nRUN echo $V > /home/v\nARG V=2\nRUN echo $V >> /home/v"),
    on("base", "platform args", "ARG TARGETOS\nARG TARGETARCH\nRUN echo $TARGETOS/$TARGETARCH > /home/v"),
    on("base", "platform args undeclared", "RUN echo [$TARGETOS] > /home/v"),
    on("base", "proxy args", "RUN echo $http_proxy > /home/v", http_proxy="http://proxy.invalid"),
    on("base", "arg not given to other instructions", "ARG A=/x\nCOPY a $A\nWORKDIR $A.d\nVOLUME $A\nUSER $A"),
)

FILES = (
    on("scratch", "copy a file", "COPY a /x"),
    on("scratch", "copy into a directory to be made", "COPY a /x/y/"),
    on("scratch", "copy to a relative path", "WORKDIR /w\nCOPY a b.txt ./\nCOPY a sub/name"),
    on("scratch", "copy a directory's contents", "COPY dir /x"),
    on("scratch", "copy a directory and a file", "COPY dir a /x/"),
    on("scratch", "copy a directory by a link", "COPY to-dir /x/"),
    on("scratch", "copy a file by a link", "COPY to-file /x/"),
    on("scratch", "copy by wildcard", "COPY *.txt /x/"),
    on("scratch", "copy directories by wildcard", "COPY di* names* /x/"),
    on("scratch", "copy by a question mark and a class", "COPY ?.txt [ab] /x/"),
    on("scratch", "copy by wildcard to one name", "COPY a* /x"),
    on("scratch", "copy wildcard without a match", "COPY nothing* /x/"),
    on("scratch", "copy what is missing", "COPY nothing /x/"),
    on("scratch", "copy names with blanks", 'COPY ["names/with space", "/to here/"]'),
    on("scratch", "copy an escaped bracket", "COPY names/[[]x] /x/"),
    on("scratch", "copy from above is clipped", "COPY ../../a /../x/../y"),
    on("scratch", "copy everything", "COPY . /x", {".dockerignore": "*\n!a\n!dir/sub\ndir/sub/link\n"}),
    on("scratch", "copy what is ignored", "COPY a /x", {".dockerignore": "a\n"}),
    on(
        "scratch",
        "copy with a doubled star ignored",
        "COPY . /x/",
        {".dockerignore": "**/t*\nroot\n# note\n\n!dir/two.txt\n"},
    ),
    on("scratch", "copy over a file", "COPY a /x\nCOPY b.txt /x"),
    on("scratch", "copy over directories", "COPY dir /x\nCOPY names /x\nCOPY c.txt /x/one"),
    on("scratch", "copy a directory over a file", "COPY a /x\nCOPY dir /x"),
    on("scratch", "copy a file over a directory", "COPY dir /x\nCOPY a /x"),
    on("scratch", "copy a closed directory", "COPY dir/empty /x\nCOPY dir/empty /y/z\nCOPY dir/empty /dir"),
    on("base", "copy a closed directory onto one", "COPY dir/empty /home"),
    on("scratch", "copy chown numbers", "COPY --chown=7:8 dir /x/y"),
    on("scratch", "copy chown one number", "COPY --chown=7 dir /x"),
    on("base", "copy chown of a name", "COPY --chown=user a /x/y"),
    on("base", "copy chown of names", "COPY --chown=user:group dir /x"),
    on("base", "copy chown of a name and a number", "COPY --chown=user:9 a /home/\nCOPY --chown=9:group a /data/"),
    on("scratch", "copy chown of a name without passwd", "COPY --chown=user a /x"),
    on("base", "copy chown of a variable", "ARG W=5:6\nCOPY --chown=$W a /home/x"),
    on("base", "copy ignores the user", "USER user\nCOPY a /new/x\nCOPY dir /home/d"),
    on(
        "base",
        "copy keeps a directory's owner",
        "RUN chown 5:6 /home && chmod 711 /home\nCOPY a /home/x\nCOPY dir /home",
    ),
    on("base", "copy through a link", "COPY a /data/in/x\nCOPY dir /data/here/d"),
    on("base", "copy through a link that leads out", "COPY a /data/out/x"),
    on("base", "copy onto a link", "COPY a /data/in"),
    on("base", "copy into a link with a slash", "COPY a /data/in/"),
    on("base", "copy a directory onto a link", "COPY dir /data/in"),
    on(
        "base",
        "copy onto links that lead out",
        "RUN ln -s ../../../home/x /data/soft; ln -s /home/y /data/too\nCOPY a /data/soft\nCOPY a /data/too",
    ),
    on("base", "copy onto a link below a link", "RUN ln -s ../x /home/soft\nCOPY a /data/in/soft"),
    on("base", "copy a directory with a link in the way", "RUN ln -s /home/x /data/one\nCOPY dir /data"),
    on("base", "copy chown onto what is there", "COPY --chown=5:6 dir /home\nCOPY --chown=5:6 a /data/loose"),
    on("base", "copy onto a link to a file", "RUN ln -s loose /data/soft\nCOPY a /data/soft"),
    on("base", "copy onto a dangling link", "RUN ln -s nowhere /data/soft\nCOPY a /data/soft"),
    on("scratch", "copy links as they are", "COPY dir/ /x/\nCOPY dir/sub/link /y/"),
    on("scratch", "copy hard links", "COPY hard /x/", {"hard/one": "h\n", "hard/two": ("hard/one", "link")}),
    on(
        "scratch",
        "copy modes",
        "COPY modes /x/",
        {f"modes/{mode:o}": ("m", mode) for mode in (0o4755, 0o2750, 0o1777, 0o400, 0)},
    ),
    on("scratch", "copy to the root", "COPY dir /"),
    on("scratch", "copy to a dot", "COPY a ."),
    on("scratch", "copy to nothing", "COPY a $NOTHING"),
    on("scratch", "copy of one word", "COPY a"),
    on("scratch", "copy dot", "COPY dir/. /x\nCOPY ./dir/sub/ /y"),
    on("scratch", "add a file", "ADD a /x/\nADD dir /y"),
    on("scratch", "add an archive", "ADD one.tar /x/", {"one.tar": tar_bytes({"d": "/", "d/f": b"f", "l": "-> d/f"})}),
    on("scratch", "add an archive to a name", "ADD one.tar /x", {"one.tar": tar_bytes({"f": b"f"})}),
    on(
        "scratch",
        "add archives by content",
        "ADD z.gz b.xz c.bz2 /x/",
        {
            "z.gz": gzip.compress(tar_bytes({"z": b"z"}), mtime=1),
            "b.xz": tar_bytes({"b": b"b"}, mode="w:xz"),
            "c.bz2": tar_bytes({"c": b"c"}, mode="w:bz2"),
        },
    ),
    on("scratch", "add what is only named an archive", "ADD one.tar /x/", {"one.tar": "no archive"}),
    on(
        "scratch",
        "add an archive with a chown",
        "ADD --chown=3:4 one.tar /x/",
        {"one.tar": tar_bytes({"d": "/", "d/f": b"f"})},
    ),
    on(
        "base",
        "add an archive over directories",
        "ADD one.tar /data/",
        {"one.tar": tar_bytes({"sub": "/", "sub/f": b"f"})},
    ),
    on("base", "add an archive with its own root", "ADD one.tar /data/", {"one.tar": tar_bytes({".": "/", "f": b"f"})}),
    on(
        "base",
        "add an archive over a link",
        "ADD one.tar /data/",
        {"one.tar": tar_bytes({"here": "/", "here/f": b"f"})},
    ),
    on("base", "add an archive over a file", "ADD one.tar /data/", {"one.tar": tar_bytes({"loose": "/", "sub": b"f"})}),
    on("scratch", "add an archive with a capability", "ADD c.tar /x/", {"c.tar": capable_tar()}),
    on("scratch", "copy an archive", "COPY one.tar /x/", {"one.tar": tar_bytes({"f": b"f"})}),
    on("scratch", "workdir", "WORKDIR /a/b\nWORKDIR c/../d\nWORKDIR .."),
    on("scratch", "workdir relative first", "WORKDIR a/b"),
    on("scratch", "workdir variable", "ENV D=/d E=e\nWORKDIR $D/$E/${F:-f}"),
    on("base", "workdir by a link", "WORKDIR /data/in/new\nRUN pwd > here"),
    on("base", "workdir that is there", "WORKDIR /home\nRUN echo a > x"),
    on("base", "workdir as a user", "USER user\nWORKDIR /work/deep\nRUN id -u > x"),
    on("base", "workdir as a user below what is there", "USER 1000:50\nWORKDIR /home/deep"),
    on("base", "workdir as an unknown user", "USER stranger\nWORKDIR /work"),
    on("parent", "workdir on a parent", "WORKDIR more"),
    on("base", "workdir is a file", "WORKDIR /data/loose"),
)

RUNS = (
    on("base", "run shell form", "RUN echo one > /home/one && echo 'two  $x' > /home/two"),
    on("base", "run exec form", 'RUN ["touch", "/home/a b", "$HOME"]'),
    on("base", "run invalid json", "RUN ['touch', '/x'] || echo fell > /home/x"),
    on("base", "run json with a number", 'RUN ["echo", 1]'),
    on("base", "run over lines", "RUN echo one \\\n  two \\\n# comment\n\n  three > /home/x"),
    on("base", "run environment", "ENV A=1\nRUN env | grep -v HOSTNAME | sort > /home/env"),
    on("parent", "run environment on a parent", "USER root\nRUN env | grep -v HOSTNAME | sort > /env; pwd > /pwd"),
    on("base", "run as a user", "USER user\nRUN id > /tmp/id; echo $HOME >> /tmp/id; touch /tmp/made"),
    on("base", "run as a user and a group", "USER user:group\nRUN id > /tmp/id"),
    on("base", "run as numbers", "USER 1000\nRUN id > /tmp/id\nUSER 44:55\nRUN id > /tmp/id2"),
    on("base", "run as a number of a name", "USER 1000\nRUN echo $HOME > /tmp/home"),
    on("base", "run removes", "RUN rm -r /data /etc/group"),
    on(
        "base",
        "run removes what a run made",
        "RUN mkdir -p /d/e && touch /d/e/f\nRUN rm /d/e/f\nRUN rm -r /d && mkdir /d",
    ),
    on(
        "base",
        "run replaces kinds",
        "RUN rm -r /data && touch /data\nRUN rm /data && ln -s home /data\nRUN rm /data && mkdir /data",
    ),
    on(
        "base",
        "run modes and owners",
        "RUN chmod 4751 /data/loose; chown 3:4 /data/loose; chmod 2770 /home; chown 5 /data/sub",
    ),
    on("base", "run links", "RUN ln /data/loose /data/hard; ln -s /nowhere /data/soft; mkfifo /data/fifo"),
    on("base", "run moves a directory", "RUN mv /data /moved"),
    on("base", "run changes a mode only", "RUN chmod 600 /data/loose"),
    on("base", "run does nothing", "RUN true"),
    on("base", "run fails", "RUN false"),
    on("base", "run umask", "RUN umask > /home/umask; touch /home/f; mkdir /home/d"),
    on("base", "run in a working directory", "WORKDIR /srv/x\nRUN pwd > pwd; touch made"),
    on(
        "base",
        "run writes into mounts",
        "RUN echo x > /dev/shm/x 2>/dev/null; echo y > /tmp/y; ls /proc/self/comm > /home/c",
    ),
    on("base", "run of an unknown program", 'RUN ["/no/such"]'),
    on(
        "base", "run in an environment of ARGs", "ARG A=1\nARG B\nRUN env | grep -E '^(A|B)=' | sort > /home/env", B="2"
    ),
    on(
        "base",
        "copy and run by turns",
        "COPY dir /d\nRUN rm /d/one && echo new > /d/new\nCOPY dir/one /d/\nRUN cat /d/* > /home/all || true",
    ),
)

TEXTS = (
    case("byte order mark", b"\xef\xbb\xbfFROM base\nRUN echo bom > /home/bom\n"),
    case("carriage returns", b'FROM base\r\nENV A=1 \\\r\n    B=2\r\nRUN echo \\\r\n  crlf > /home/x\r\nCMD ["a"]\r\n'),
    case("no newline at the end", "FROM base\nLABEL a=1"),
    case("lower case", "from base\nlabel a=1\nrun echo x > /home/x\ncmd y"),
    case("comments and blanks", "\n# note\n\nFROM base\n  # note\n\n\tLABEL a=1\n#LABEL b=2\nLABEL c=#no\n"),
    case("escape directive", "# escape=`\nFROM base\nENV A=a` b B=c\\d `\n  C=e\nRUN echo x`\n  y > /home/x\n"),
    case("syntax of a comment later", "FROM base\n# escape=`\nENV A=a\\ b\n"),
    case("continuation of a comment", "FROM base\n# note \\\nLABEL a=1\n"),
    case("continuation at the end", "FROM base\nLABEL a=1 \\\n"),
    case("blanks after a continuation", "FROM base\nLABEL a=1 \\  \n b=2\n"),
    case("unknown instruction", "FROM base\nNOTHING x\n"),
    case("nothing", "\n# only a comment\n"),
    case("no from", "LABEL a=1\n"),
    case("from with a platform", "FROM --platform=linux/amd64 base\nLABEL a=1\n"),
    case("from with an unknown flag", "FROM --plaform=linux/amd64 base\nLABEL a=1\n"),
    case("run with quotes", 'FROM base\nRUN echo "a  b" \'c  d\' \\"e > /home/x\n'),
    case("run with a hash", "FROM base\nRUN echo a # b\nRUN echo 'c # d' > /home/x\n"),
    case("letters of other scripts", "FROM base\nLABEL é=ü\nRUN echo ñ > /home/ñ\nENV Ω=1\n"),
)

CASES = (*COMMANDS, *METADATA, *FILES, *RUNS, *TEXTS)

# These have several stages.
STAGES = (
    case("copy from a stage", "FROM base AS one\nRUN echo x > /home/x\nFROM scratch\nCOPY --from=one /home/x /y\n"),
    case("copy from a stage by number", "FROM base\nRUN echo x > /home/x\nFROM scratch\nCOPY --from=0 /home /h/\n"),
    case("copy from an image", "FROM scratch\nCOPY --from=base /data /d\nCOPY --from=base /bin/sh /sh\n"),
    case(
        "a stage on a stage",
        "FROM base AS one\nARG A=1\nENV E=2\nCMD one\nFROM one AS two\nRUN echo $A $E > /home/x\nENTRYPOINT two\n",
    ),
    case("a stage that is not needed", "FROM base AS one\nRUN false\nFROM base\nLABEL a=1\n"),
    case("onbuild of a stage", "FROM base AS one\nONBUILD RUN echo fired > /home/x\nFROM one\nLABEL a=1\n"),
    case("the base's waiting in a stage", "FROM waiting AS one\nFROM one\nRUN echo more >> /ran\n"),
    case(
        "copy from a stage keeps owners",
        "FROM base AS one\nRUN chown 5:6 /data/loose /data/sub; chmod 2771 /data/sub\n"
        "FROM base\nCOPY --from=one /data /d\nCOPY --from=one --chown=user /data/loose /l\n",
    ),
    case(
        "copy from a stage with links",
        "FROM base AS one\nRUN ln /data/loose /data/hard\n"
        "FROM scratch\nCOPY --from=one /data /d/\nCOPY --from=one /data/here /e\n",
    ),
    case("a name in upper case", "FROM base AS One\nRUN echo x > /home/x\nFROM scratch\nCOPY --from=ONE /home/x /\n"),
    case("copy from what is missing", "FROM base AS one\nFROM scratch\nCOPY --from=one /nothing /\n"),
    case(
        "global arg in stages",
        "ARG V=1\nFROM base AS one\nARG V\nRUN echo $V > /home/x\nFROM one\nRUN echo [$V] >> /home/x\n",
    ),
)
