"""Applications that pylxc and docker compose read alike: each a few files, for one thing they say.

``files`` has the files, "compose.yaml" among them unless ``words`` name others; ``words`` are the command line's,
``env`` is the environment beside PATH and HOME. ``wrong`` is what an error of pylxc names, where there is to be one:
file, line and key.
"""

from __future__ import annotations

from textwrap import dedent

from attrs import field, frozen


@frozen
class Case:
    name: str
    files: dict[str, str] = field(hash=False)
    words: tuple[str, ...] = ()
    env: dict[str, str] = field(factory=dict, hash=False)
    wrong: tuple[str, int, str] | None = None


def _case(name: str, text: str, *words: str, wrong: tuple[int, str] | None = None, **more: object) -> Case:
    files = {"compose.yaml": dedent(text), **more.pop("files", {})}
    place = ("compose.yaml", *wrong) if wrong else None
    return Case(name, files, words, more.pop("env", {}), more.pop("place", place))


def _service(name: str, text: str, rest: str = "", wrong: tuple[int, str] | None = None, **more: object) -> Case:
    """Make a case of one service ``a``, whose keys begin in line 5, beside a service ``b``."""
    body = "".join(f"    {line}\n" for line in dedent(text).strip("\n").splitlines())
    whole = f"services:\n  b: {{image: busybox}}\n  a:\n    image: debian\n{body}{dedent(rest)}"
    return _case(name, whole, wrong=wrong, **more)


def _variables(name: str, value: str, wrong: bool = False, **more: object) -> Case:  # noqa: FBT001, FBT002
    place = (5, "services.a.user") if wrong else None
    env = {"SET": "set", "EMPTY": "", "DOLLAR": "$SET"}
    return _service(name, f"user: {value}", wrong=place, env=env, **more)


SCALARS = [
    _case(
        "scalars",
        """\
        x-all: [yes, on, 0777, 0o777, 0x1F, 1_000, 22:22, 1.5, 1e3, .5, ~, null, True, "q", 0b11, +5, -0, 1., 010, 08]
        x-more: [!!str 5, !foo bar, =, 0x, 1__0, _1, 0_7, -0x1F, -0b1, +.5, 1e+3, TRUE, NULL, Null, n, y, off, 0o8]
        x-tags: [!!int "7", !!float 5, !!binary aGk=, !!bool "true", !!null ""]
        x-times: [2001-01-01, 2001-12-14t21:59:43.10-05:00, 2001-13-01, 2001-12-14 21:59:43]
        x-big: [12345678901234567890, 9007199254740993, -9223372036854775808, 1.0e-7, 123456789.125]
        services: {a: {image: debian}}
        """,
    ),
    _case(
        "text",
        """\
        x-folded: >
          one
          two

          three
        x-kept: |+
          one

        x-cut: |-
          one
            two
        x-quoted: "a\\tb\\u00e9\\
          c"
        x-single: 'it''s'
        x-plain: a # b
        x-spread: one
          two
        services: {a: {image: debian}}
        """,
    ),
    _case("not-an-integer", "x-a: !!int foo\nservices: {a: {image: debian}}\n", wrong=(1, "x-a")),
    _case("key-twice", "services:\n  a: {image: debian}\n  a: {image: busybox}\n", wrong=(3, "services.a")),
    _case("key-number", "services: {1: {image: debian}}\n", wrong=(1, "services")),
    _case("no-mapping", "- a\n", wrong=(1, "(the whole file)")),
    _case("empty-file", "# nothing\n", wrong=(1, "(the whole file)")),
    _case("no-service", "services: {}\n"),
    _case("name-only", "name: foo\n"),
    _case("bad-yaml", "services:\n  a: {image: debian\n", wrong=(3, "services.a")),
    _case("tab", "services:\n\ta: {image: debian}\n", wrong=(2, "services")),
    _case("two-documents", "services: {a: {image: debian}}\n---\nservices: {a: {user: u}, b: {image: busybox}}\n"),
    _case(
        "merge-keys",
        """\
        x-one: &one {image: debian, user: one, environment: {A: 1}}
        x-two: &two {user: two, tty: true}
        services:
          a: {<<: *one, hostname: a}
          b:
            <<: [*two, *one]
            environment: {B: 2}
          c: {<<: {image: busybox}, command: &words [x, y]}
          d: {image: busybox, entrypoint: *words}
        """,
    ),
    _case("merge-key-of-text", "services: {a: {<<: debian}}\n", wrong=(1, "services.a.<<")),
    _case("unknown-anchor", "services: {a: *b}\n", wrong=(1, "services.a")),
    _case("anchor-in-itself", "services: &s {a: {image: debian, x-a: *s}}\n", wrong=(1, "services.a.x-a")),
    _case(
        "anchors-anywhere",
        """\
        x-key: &key A
        x-name: {&other B: 1}
        services:
          a: {image: &image debian, environment: {*key : 1, *other : *image}}
        """,
    ),
    _case("alias-key-twice", "x-k: &k A\nx-a: {*k : 1, *k : 2}\nservices: {a: {image: x}}\n", wrong=(2, "x-a.A")),
    _case("alias-key-number", "x-k: &k 5\nx-a:\n  *k : 1\nservices: {a: {image: x}}\n", wrong=(3, "x-a")),
    _case("key-of-sequence", "x-a:\n  [a]: 2\nservices: {a: {image: x}}\n", wrong=(2, "x-a")),
    _case("version", 'version: "3.8"\nservices: {a: {image: debian}}\n'),
    _case("version-number", "version: 3\nservices: {a: {image: debian}}\n", wrong=(1, "version")),
    _case("unknown-top", "services: {a: {image: debian}}\nfoo: 1\n", wrong=(2, "foo")),
    _case(
        "unknown-key", "services:\n  a:\n    image: debian\n    enviroment: {}\n", wrong=(4, "services.a.enviroment")
    ),
    _case("image-number", "services: {a: {image: 5}}\n", wrong=(1, "services.a.image")),
    _case("service-nothing", "services:\n  a:\n", wrong=(2, "services.a")),
    _case("services-nothing", "services:\n", wrong=(1, "services")),
    _case("service-name", 'services: {"a b": {image: debian}}\n', wrong=(1, "services.a b")),
    _case("extensions", "x-top: {a: [1, {b: c}]}\nservices: {a: {image: debian, x-own: 1}}\n"),
]

VARIABLES = [
    _variables("variable", "a$SET-${SET}b"),
    _variables("variable-unset", "a$NO-${NO}b"),
    _variables("variable-value-of-dollar", "$DOLLAR"),
    _variables("variable-dollars", "'$$SET $ 5 $5 a$'"),
    _variables("variable-default", "'${NO:-d} ${NO-d} ${EMPTY:-d} ${EMPTY-d} ${SET:-d}'"),
    _variables("variable-replaced", "'a${NO:+r}${NO+r}b${EMPTY:+r}${EMPTY+r}c${SET:+r}${SET+r}'"),
    _variables("variable-nested", "'${NO:-x${ALSO:-y$SET}}z'"),
    _variables("variable-nested-replaced", "'${SET:+x${NO:-y}}'"),
    _variables("variable-braces", "'${NO:-a}b}'"),
    _variables("variable-json", '\'${NO:-{"a": {"b": 1}}} x\''),
    _variables("variable-brackets", "'${NO:-{}}'"),
    _variables("variable-default-dollar", "'${NO:-$$}'"),
    _variables("variable-required", "'${SET:?no} ${EMPTY?no}'"),
    _variables("variable-required-unset", "'${NO:?told}'", wrong=True),
    _variables("variable-required-empty", "'${EMPTY:?told}'", wrong=True),
    _variables("variable-required-absent", "'${NO?}'", wrong=True),
    _variables("variable-not-closed", "'a${SET'", wrong=True),
    _variables("variable-no-name", "'${}'", wrong=True),
    _variables("variable-number", "'${1}'", wrong=True),
    _variables("variable-operator", "'${SET%x}'", wrong=True),
    _variables("variable-operator-colon", "'${SET:x}'", wrong=True),
    _variables("variable-other-letter", "'$é'"),
    _service(
        "variable-kinds",
        """\
        ports: ["${PORT}:${PORT}"]
        tty: ${YES}
        cpus: ${HALF}
        scale: ${TWO}
        mem_limit: ${SIZE}
        environment: {A: "${PORT}", "${PORT}": b}
        command: echo ${WORDS} '${WORDS}'
        """,
        env={"PORT": "80", "YES": "true", "HALF": "0.5", "TWO": "2", "SIZE": "10m", "WORDS": "a b"},
    ),
    _service("variable-not-a-flag", "tty: ${SET}", env={"SET": "maybe"}, wrong=(5, "services.a.tty")),
    _case(
        "dotenv",
        "services: {a: {image: '${IMAGE}:${TAG}', environment: [A, B, C=$C, HOME, NONE]}}\n",
        files={".env": "IMAGE=debian\nTAG=12 # a comment\nA='$TAG'\nB=\"x\\n$TAG\"\nexport C = c d \nHOME=/other\n"},
    ),
    _case(
        "env-file-option",
        "services: {a: {image: 'debian:${A}${B}'}}\n",
        *("--env-file", "one.env", "--env-file", "two.env"),
        files={".env": "A=0\nB=0\n", "one.env": "A=1\nB=1\n", "two.env": "B=2$A\n"},
    ),
    _case(
        "env-files-variable",
        "services: {a: {image: 'debian:${A}${B}'}}\n",
        files={"one.env": "A=1\nB=1\n", "two.env": "B=2\n"},
        env={"COMPOSE_ENV_FILES": "one.env,two.env"},
    ),
    _case(
        "dotenv-below-environment",
        "services: {a: {image: 'debian:${A}', environment: [A]}}\n",
        files={".env": "A=file\n"},
        env={"A": "environment"},
    ),
    _case(
        "dotenv-bad", "services: {a: {image: debian}}\n", files={".env": "A=1\nB C=2\n"}, place=(".env", 2, "env_file")
    ),
    _case("dotenv-project-name", "services: {a: {image: debian}}\n", files={".env": "COMPOSE_PROJECT_NAME=other\n"}),
    _case(
        "dotenv-compose-file",
        "services: {a: {image: debian}}\n",
        files={
            ".env": "COMPOSE_FILE=one.yaml:two.yaml\n",
            "one.yaml": "services: {b: {image: b1}}\n",
            "two.yaml": "{}\n",
        },
    ),
]

DOTENV_TEXTS = {
    "comments": "# c\n\n  #d\nA=1 # c\nB=1#c\nC='a # b' # x\nD=\"q # r\" # y\nE= #x\nF=x #\n",
    "export": "export A=1\nexport NONE\n export  C = 3 \nexport=5\nexportA=1\n",
    "colon": "A: 1\nB:2\n",
    "inherited": "HOME\nNONE\n",
    "empty": "A=\nB=''\nC=\"\"\n",
    "escapes": "A=\"x\\ny\\tz\\\\w\\\"q\\$HOME $HOME\"\nB='it\\'s'\nC='$HOME \\n'\nD=a\\nb\n",
    "variables": "A=1\nB=$A-${A}\nC=${NO:-d}$NO\nD=$$ $5 $(x)\nE=\"$$HOME\"\nF='$$'\nG=\\$HOME\n",
    "environment-first": "HOME=5\nA=$HOME\n",
    "lines": "A='multi\nline'\nB=\"multi\n line\"\nC=2\n",
    "names": "A-B=1\n1A=2\nA.B=3\nA[0]=4\né=5\n",
    "blanks": "A=a b  c  \nB= lead\nC=\t1\nD={\"a\": 1}\nE=x'y'z\nF==b\n",
    "carriage-returns": "A=1\r\nB='2'\r\nC=\r\n",
    "byte-order-mark": "\ufeffA=1\n",
}
DOTENV_WRONG = {
    "quote": ("\nA='a\nb\n", 2),
    "equals": ("A=1\nB;=2\n", 2),
    "unterminated": ('A=1\nB="x\n', 2),
    "blank-in-name": ("A=1\n\nB C=1\n", 3),
    "required": ("A=${NO?err}\n", 1),
    "not-closed": ("A=${A\n", 1),
    "character": ("A='x'\\''y'\n", 1),
}
ENV_FILES = [
    *(
        _case(f"env-file-{name}", "services: {a: {image: debian, env_file: e.env}}\n", files={"e.env": text})
        for name, text in DOTENV_TEXTS.items()
    ),
    *(
        _case(
            f"env-file-wrong-{name}",
            "services: {a: {image: debian, env_file: [e.env]}}\n",
            files={"e.env": text},
            place=("e.env", line, "services.a.env_file"),
        )
        for name, (text, line) in DOTENV_WRONG.items()
    ),
    _service(
        "env-file-forms",
        """\
        env_file:
          - e.env
          - {path: raw.env, format: raw}
          - {path: absent.env, required: false}
          - path: ./sub/f.env
        environment: {B: 2, N: , H: $HOME}
        """,
        files={"e.env": "A=1\nB=1\nN=7\n", "raw.env": "R='q' $HOME # c\nA=3\nHOME\n", "sub/f.env": "S=$A\n"},
    ),
    _service(
        "env-file-raw-wrong",
        "env_file: [{path: raw.env, format: raw}]",
        files={"raw.env": "A=1\n\nB C=1\n"},
        place=("raw.env", 3, "services.a.env_file"),
    ),
    _service("env-file-absent", "env_file: [absent.env]", wrong=(5, "services.a.env_file")),
    _service(
        "env-file-format",
        "env_file: [{path: e.env, format: foo}]",
        files={"e.env": ""},
        wrong=(5, "services.a.env_file"),
    ),
    _service("label-file", "label_file: l.labels\nlabels: {z: 1}", files={"l.labels": "l=1\nz=2\n"}),
]

SERVICES = [
    _service(
        "mounts-short",
        """\
        volumes:
          - /anonymous
          - ./x:/y
          - data:/d:ro,nocopy
          - data:/e
          - /a:/b:rw,z,rshared
          - ~/h:/h
          - ./sub/../up:/up:ro
        """,
        "volumes: {data: }\n",
    ),
    _service(
        "mounts-long",
        """\
        volumes:
          - {type: bind, source: ./q, target: /q}
          - {type: bind, source: ./q2, target: /q2, bind: {propagation: shared, create_host_path: false, selinux: Z}}
          - {type: volume, target: /v}
          - {type: tmpfs, target: /t, tmpfs: {size: 64m, mode: 0700}}
          - {type: volume, source: data, target: /w, read_only: true, volume: {nocopy: true, subpath: s}}
          - {type: image, source: debian, target: /i, image: {subpath: a}}
          - {type: bind, source: ., target: /r, read_only: true, bind: {recursive: disabled}, consistency: cached}
        """,
        "volumes: {data: }\n",
    ),
    _service("mounts-one-target", "volumes: [./a:/dup/, ./b:/dup, ./c:/other]"),
    _service("mount-type", "volumes: [{type: foo, target: /x}]", wrong=(5, "services.a.volumes.0.type")),
    _service("mount-number", "volumes: [5]", wrong=(5, "services.a.volumes.0")),
    _service("mount-selinux", "volumes: ['./a:/a:Z,rslave', './b:/b:rw']"),
    _service("mount-empty", 'volumes: [""]', wrong=(5, "services.a.volumes.0")),
    _service("mount-no-source", 'volumes: [":/x"]', wrong=(5, "services.a.volumes.0")),
    _service("mount-bind-no-source", "volumes: [{type: bind, target: /x}]", wrong=(5, "services.a.volumes.0")),
    _service("mount-no-target", "volumes: [{type: volume, source: data}]", wrong=(5, "services.a.volumes.0")),
    _service("mount-no-type", "volumes: [{source: data, target: /x}]", wrong=(5, "services.a.volumes.0")),
    _service("mount-undefined", "volumes: [data:/x]", wrong=(5, "services.a.volumes.0")),
    _service(
        "ports-short",
        """\
        ports:
          - 3000
          - "3000-3002"
          - "8000:80"
          - 9090-9091:8080-8081
          - "127.0.0.1:5000-5001:5000-5001/udp"
          - "6060:6060/udp"
          - "[::1]:6001:6001"
          - "4000-4010:80"
          - "0.0.0.0::81"
          - ":82"
          - "1.2.3.4:0:83"
          - 80/TCP
          - 22:22
          - 132:132/sctp
        """,
    ),
    _service(
        "ports-long",
        """\
        ports:
          - {target: 80}
          - {target: "81", published: 8081, protocol: udp, mode: host, name: w, app_protocol: http, host_ip: 1.2.3.4}
          - {target: 5, published: "1-5"}
        """,
    ),
    _service("ports-twice", 'ports: ["80:80", "80:80", 81, "81"]'),
    _service("port-word", "ports:\n  - 80\n  - foo", wrong=(7, "services.a.ports.1")),
    _service("port-address", 'ports: ["1:2:3:4"]', wrong=(5, "services.a.ports.0")),
    _service("port-protocol", "ports: [80/foo]", wrong=(5, "services.a.ports.0")),
    _service("port-large", 'ports: ["70000:80"]', wrong=(5, "services.a.ports.0")),
    _service("port-ranges", 'ports: ["80-82:80-81"]', wrong=(5, "services.a.ports.0")),
    _service("port-backwards", "ports: [82-80]", wrong=(5, "services.a.ports.0")),
    _service("port-no-target", "ports: [{published: 80}]", wrong=(5, "services.a.ports.0")),
    _service("port-float", "ports: [1.5]", wrong=(5, "services.a.ports.0")),
    _service("ports-nothing", "ports:", wrong=(5, "services.a.ports")),
    _service("environment-map", "environment: {A: 1, B: true, C: , D: 1.50, E: x, G: 1e3, HOME: , H: ''}"),
    _service("environment-list", "environment: [A, B=, C=d=e, HOME, D=1, D=2]"),
    _service("environment-list-value", "environment: {A: [1]}", wrong=(5, "services.a.environment.A")),
    _service("labels", "labels: [a, b=c, d=]\nannotations: {x: 1, y: , z: true}"),
    _service("expose-float", "expose: [1.5]", wrong=(5, "services.a.expose.0")),
    _service("group-float", "group_add: [a, 1.5]", wrong=(5, "services.a.group_add.1")),
    _service("dns-empty", "dns: ['${NO}']"),
    _service("sizes-zero", "mem_limit: 0\nshm_size: '0'\nmemswap_limit: 0\nmem_reservation: 0"),
    _service("replicas-negative", "deploy: {replicas: -1}", wrong=(5, "services.a.deploy.replicas")),
    _service("container-name-short", "container_name: q", wrong=(5, "services.a.container_name")),
    _service("command-backslash", "command: a\\", wrong=(5, "services.a.command")),
    _service("command-parentheses", "command: a (b)", wrong=(5, "services.a.command")),
    _service("command-backquotes", "command: a `x y` '$$(a b)' c"),
    _service("ssh-text", "build: {ssh: default}", wrong=(5, "services.a.build.ssh")),
    _service(
        "priority-text", "networks: {default: {priority: '1'}}", wrong=(5, "services.a.networks.default.priority")
    ),
    _service("network-mode-empty", "network_mode: ''"),
    _service(
        "env-files-in-turn",
        "env_file: [e.env, f.env]",
        files={"e.env": "A=1\nE=1\n", "f.env": "B=$A\nE=2\nF=$E\n"},
    ),
    _service("expose", 'expose: [80, "81", 82-84, 90/udp, 80]'),
    _service("commands", 'command: echo \'a b\' "c" \\d\nentrypoint: sh -c "x"'),
    _service("commands-empty", "command: ''\nentrypoint: []"),
    _service("command-quotes", r"""command: a\ b 'c\'d "e\"f\g" #h $$x * x=y"z"'w'"""),
    _service("command-operators", "command: a | b && c\nentrypoint: x > y"),
    _service("command-redirection", "command: a b2>x\nentrypoint: a 2>x 3"),
    _service("size-minus", "shm_size: '-1'", wrong=(5, "services.a.shm_size")),
    _service("command-not-closed", "command: echo 'a", wrong=(5, "services.a.command")),
    _service("command-numbers", "command: [1, 2]", wrong=(5, "services.a.command.0")),
    _service("lists-of-names", "cap_add: [A, A]\ncap_drop: [B]\ndns: [1.1.1.1, 1.1.1.1]\ndns_opt: [a, b, a]"),
    _service("lists-or-one", "dns: 1.1.1.1\ndns_search: a.b\ntmpfs: /t"),
    _service("security-option-twice", "security_opt: [x, x]", wrong=(5, "services.a.security_opt.1")),
    _service("groups", "group_add: [1, '2', a]\nsecurity_opt: [no-new-privileges]\ndevice_cgroup_rules: ['c 1:3 mr']"),
    _service("depends-list", "depends_on: [b]"),
    _service("depends-map", "depends_on: {b: {condition: service_healthy, restart: true, required: false}}"),
    _service("depends-twice", "depends_on: [b, b]", wrong=(5, "services.a.depends_on.1")),
    _service("depends-no-condition", "depends_on: {b: {restart: true}}", wrong=(5, "services.a.depends_on.b")),
    _service("depends-condition", "depends_on: {b: {condition: foo}}", wrong=(5, "services.a.depends_on.b.condition")),
    _service("depends-nothing", "depends_on: {b: }", wrong=(5, "services.a.depends_on.b")),
    _service("depends-unknown", "depends_on: [c]", wrong=(5, "services.a.depends_on.c")),
    _service("depends-itself", "depends_on: [a]", wrong=(5, "services.a.depends_on.a")),
    _case(
        "depends-ring",
        """\
        services:
          a: {image: debian, depends_on: [b]}
          b: {image: debian, depends_on: [c]}
          c: {image: debian, depends_on: [a]}
        """,
        wrong=(4, "services.c.depends_on.a"),
    ),
    _service(
        "devices",
        """\
        devices:
          - /dev/a
          - /dev/b:/dev/c
          - /dev/b:/dev/d:r
          - {source: /dev/e, target: /x, permissions: rw}
        """,
    ),
    _service("device-parts", "devices: [a:b:c:d]", wrong=(5, "services.a.devices.0")),
    _service("hosts-list", 'extra_hosts: ["b:1.2.3.4", "a=::1", "a:[::2]", "b:1.2.3.5", "c:host-gateway"]'),
    _service("hosts-map", "extra_hosts: {b: 1.2.3.4, a: ['::1', 1.1.1.1]}"),
    _service("host-no-address", "extra_hosts: [foo]", wrong=(5, "services.a.extra_hosts.0")),
    _service("limits", "ulimits: {nofile: 5, nproc: {soft: 1, hard: '2'}, core: '7', memlock: -1}"),
    _service("limit-half", "ulimits: {nofile: {soft: 1}}", wrong=(5, "services.a.ulimits.nofile")),
    _service(
        "secrets-and-configs",
        """\
        secrets: [s, {source: s2, target: t, uid: "1", gid: "2", mode: 0440}, {source: s3, mode: "0400"}]
        configs: [c, {source: c2, target: /x}, c3]
        """,
        """\
        secrets: {s: {file: ./s}, s2: {environment: V}, s3: {external: true}, unused: {file: ./u}}
        configs:
          c: {content: "hi $$x ${V:-y}"}
          c2: {external: true, name: foo}
          c3: {file: ./f, name: nn, labels: [a]}
        """,
    ),
    _service("secret-undefined", "secrets: [s]", wrong=(5, "services.a.secrets.0")),
    _service("config-undefined", "configs: [{source: s}]", wrong=(5, "services.a.configs.0")),
    _case(
        "secret-nothing", "secrets:\n  s: {}\nservices: {a: {image: debian, secrets: [s]}}\n", wrong=(2, "secrets.s")
    ),
    _case(
        "secret-two",
        "secrets:\n  s: {file: a, environment: b}\nservices: {a: {image: debian, secrets: [s]}}\n",
        wrong=(2, "secrets.s"),
    ),
    _case(
        "config-two",
        "configs:\n  s: {file: a, content: b}\nservices: {a: {image: debian, configs: [s]}}\n",
        wrong=(2, "configs.s"),
    ),
    _service(
        "networks-long",
        """\
        networks:
          front:
            aliases: [x, y]
            ipv4_address: 10.0.0.2
            ipv6_address: fd00::2
            priority: 5
            gw_priority: 1
            mac_address: 02:42:ac:11:65:43
            driver_opts: {a: 1}
            link_local_ips: [169.254.1.1]
            interface_name: e0
          default:
        """,
        """\
        networks:
          front:
            driver: bridge
            driver_opts: {a: 1}
            ipam: {driver: d, config: [{subnet: 10.0.0.0/8, ip_range: 10.1.0.0/16, gateway: 10.0.0.1,
              aux_addresses: {a: 10.0.0.5}}]}
            internal: true
            attachable: "yes"
            enable_ipv6: true
            enable_ipv4: false
            labels: [a=b]
          unused:
        """,
    ),
    _service(
        "networks-external",
        "networks: [one, two]",
        "networks: {one: {external: true}, two: {name: zz, external: true}}\n",
    ),
    _service("network-default", "tty: true", "networks: {default: {name: other, driver: bridge}}\n"),
    _service("network-undefined", "networks: [q]", wrong=(5, "services.a.networks.q")),
    _service("network-twice", "networks: [default, default]", wrong=(5, "services.a.networks.1")),
    _service("network-mode", "network_mode: host"),
    _service(
        "network-mode-and-networks", "network_mode: host\nnetworks: [default]", wrong=(5, "services.a.network_mode")
    ),
    _service("network-mode-service", "network_mode: service:b\nipc: service:b\npid: service:b"),
    _service("network-mode-container", "network_mode: container:zz\nports: ['80:80']"),
    _service("network-mode-unknown", "network_mode: service:zz", wrong=(4, "services.a.depends_on.zz")),
    _service(
        "volumes-external",
        "volumes: [old:/x, ww:/y, uu:/z]",
        """\
        volumes:
          old: {external: {name: foo}}
          ww: {external: true, name: q}
          uu: {driver: local, driver_opts: {type: none, o: bind, device: ./x}, labels: {a: 1}}
          unused: {}
        """,
    ),
    _service(
        "volume-external-driver",
        "volumes: [vv:/x]",
        "volumes:\n  vv: {external: true, driver: x}\n",
        wrong=(7, "volumes.vv.driver"),
    ),
    _service(
        "health",
        """\
        healthcheck:
          test: [CMD, a]
          interval: 90s
          timeout: 1500ms
          retries: "3"
          start_period: 1h
          start_interval: 2s
        """,
    ),
    _service("health-text", "healthcheck: {test: curl -f localhost, interval: 1d, timeout: 1m30s, retries: 0}"),
    _service("health-off", "healthcheck: {disable: true}"),
    _service("health-none", 'healthcheck: {test: ["NONE"]}'),
    _service("health-word", 'healthcheck: {test: ["foo"]}', wrong=(5, "services.a.healthcheck.test")),
    _service("duration-number", "healthcheck: {interval: 10}", wrong=(5, "services.a.healthcheck.interval")),
    _service("duration-no-unit", 'healthcheck: {interval: "10"}', wrong=(5, "services.a.healthcheck.interval")),
    _service(
        "durations",
        "stop_grace_period: 1m30s\nhealthcheck: {test: x, interval: 0.5s, timeout: 1h1ms, start_period: 2w}",
    ),
    _service(
        "deploy",
        """\
        deploy:
          mode: replicated
          replicas: 2
          labels: [a=b]
          endpoint_mode: vip
          resources:
            limits: {cpus: "0.5", memory: 50M, pids: 5}
            reservations:
              cpus: 0.25
              memory: 20M
              devices: [{capabilities: [gpu], driver: nvidia, device_ids: ["0"], options: {a: b}}]
              generic_resources: [{discrete_resource_spec: {kind: g, value: 2}}]
          restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
          placement: {constraints: [a==b], preferences: [{spread: x}], max_replicas_per_node: 1}
          update_config: {parallelism: 2, delay: 10s, failure_action: pause, monitor: 1s, max_failure_ratio: 0.3,
            order: start-first}
          rollback_config: {parallelism: 0}
        """,
    ),
    _service("deploy-nothing", "deploy:"),
    _service("deploy-none", "deploy: {replicas: 0}"),
    _service(
        "deploy-gpu-count",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}, {capabilities: [a], count: all}]}}}",
    ),
    _service(
        "deploy-gpu-no-capability",
        "deploy: {resources: {reservations: {devices: [{driver: x}]}}}",
        wrong=(5, "services.a.deploy.resources.reservations.devices.0"),
    ),
    _service(
        "deploy-gpu-both",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 1, device_ids: ['0']}]}}}",
        wrong=(5, "services.a.deploy.resources.reservations.devices.0"),
    ),
    _service("scale", "scale: 3"),
    _service("scale-none", "scale: 0"),
    _service("scale-and-deploy", "scale: 2\ndeploy: {mode: replicated}"),
    _service("scale-and-replicas", "scale: 3\ndeploy: {replicas: 2}", wrong=(5, "services.a.scale")),
    _service("scale-and-equal-replicas", "scale: 2\ndeploy: {replicas: 2}"),
    _service("cpus-twice", "cpus: 1\ndeploy: {resources: {limits: {cpus: '0.5'}}}", wrong=(5, "services.a.cpus")),
    _service(
        "watch",
        """\
        develop:
          watch:
            - {path: ./src, action: sync, target: /app, ignore: [node_modules/], include: "*.py"}
            - {path: ., action: sync+exec, exec: {command: a b, user: u}, target: /y, x-f: 1}
            - {path: sub/package.json, action: rebuild}
        """,
    ),
    _service(
        "watch-action", "develop: {watch: [{path: ., action: foo}]}", wrong=(5, "services.a.develop.watch.0.action")
    ),
    _service("watch-no-path", "develop: {watch: [{action: rebuild}]}", wrong=(5, "services.a.develop.watch.0")),
    _service(
        "block-devices",
        """\
        blkio_config:
          weight: 300
          weight_device: [{path: /dev/sda, weight: 400}]
          device_read_bps: [{path: /dev/sdb, rate: 12mb}]
          device_write_iops: [{path: /dev/sdb, rate: 120}]
        """,
    ),
    _service("logging", "logging: {driver: syslog, options: {a: b, c: 5, d: }}"),
    _service(
        "plain-keys",
        """\
        container_name: foo-1
        domainname: d
        hostname: h
        ipc: host
        isolation: x
        mac_address: 02:42:ac:11:65:43
        oom_kill_disable: true
        oom_score_adj: -5
        pids_limit: 5
        platform: linux/amd64
        privileged: true
        pull_policy: if_not_present
        read_only: true
        restart: on-failure:3
        runtime: r
        shm_size: 64mb
        stdin_open: true
        stop_signal: SIGINT
        storage_opt: {size: 1G}
        sysctls: [net.core.somaxconn=1]
        tty: true
        user: "1:2"
        userns_mode: host
        uts: host
        working_dir: /w
        attach: false
        init: false
        cgroup: host
        cgroup_parent: x
        """,
    ),
    _service("as-good-as-nothing", "privileged: false\nread_only: false\ntty: no\nhostname: ''\nlabels: {}\nports: []"),
    _service("flags", "tty: 'yes'\ninit: 'TRUE'\nread_only: off\nstdin_open: 'n'"),
    _service("flag-word", "tty: foo", wrong=(5, "services.a.tty")),
    _service("flag-number", "tty: 1", wrong=(5, "services.a.tty")),
    _service("restart-no", "restart: no"),
    _service("user-number", "user: 1000", wrong=(5, "services.a.user")),
    _service("pull-policy", "pull_policy: foo", wrong=(5, "services.a.pull_policy")),
    _service(
        "cpu-keys",
        """\
        cpus: 1.5
        cpu_shares: 5
        cpu_period: 100
        cpu_quota: "50"
        cpu_count: 2
        cpu_percent: 50
        cpuset: 0-1
        cpu_rt_period: 5
        cpu_rt_runtime: "7"
        """,
    ),
    _service("cpu-percent", "cpu_percent: 200", wrong=(5, "services.a.cpu_percent")),
    _service("oom-score", "oom_score_adj: 2000", wrong=(5, "services.a.oom_score_adj")),
    _service(
        "depends-required-word",
        "depends_on: {b: {condition: service_started, required: 'no'}}",
        wrong=(5, "services.a.depends_on.b.required"),
    ),
    _service("cpus-word", "cpus: foo", wrong=(5, "services.a.cpus")),
    _service(
        "memory-keys", "mem_limit: 1024\nmem_reservation: 1gb\nmemswap_limit: -1\nmem_swappiness: 50\nshm_size: 1.5k"
    ),
    _service("memory-word", "mem_limit: much", wrong=(5, "services.a.mem_limit")),
    _service("gpus-all", "gpus: all"),
    _service("gpus", "gpus: [{driver: nvidia, count: 2}, {driver: x, device_ids: [a]}]"),
    _service(
        "hooks",
        """\
        post_start: [{command: a b, user: root, privileged: true, environment: [A=b, HOME], working_dir: /x}]
        pre_stop: [{command: [x]}]
        """,
    ),
    _service("hook-no-command", "post_start: [{user: root}]", wrong=(5, "services.a.post_start.0")),
    _service("provider", "provider: {type: foo, options: {a: [b], c: 1}}"),
    _service("links", 'links: [b, "b:c"]\nvolumes_from: [b, "container:z:ro"]\nexternal_links: ["x:y"]'),
    _service("link-unknown", "links: [c]", wrong=(5, "services.a.depends_on.c")),
    _service("credential", "credential_spec: {file: x}\nuse_api_socket: true"),
    _service("models", "models: [llm]", "models: {llm: {model: ai/x, context_size: 5, runtime_flags: [a]}}\n"),
    _service("models-long", "models: {llm: {endpoint_var: A, model_var: B}}", "models: {llm: {model: ai/x}}\n"),
    _case("build-text", "services: {a: {build: ./sub}, b: {build: {}}, c: {build: {dockerfile: ../D}}}\n"),
    _case("build-inline", "services: {a: {build: {dockerfile_inline: 'FROM debian'}}}\n"),
    _case(
        "build-inline-and-file",
        "services:\n  a:\n    build:\n      dockerfile: D\n      dockerfile_inline: FROM x\n",
        wrong=(5, "services.a.build.dockerfile_inline"),
    ),
    _case(
        "build-long",
        """\
        services:
          a:
            image: made
            build:
              context: https://github.com/a/b.git#main
              additional_contexts: {k: ./y, z: docker-image://q, w: "service:c"}
              args: [A, B=c, HOME]
              secrets: [s, {source: s, target: other}]
              ulimits: {nofile: 5}
              tags: [a, b, a]
              cache_from: [b]
              cache_to: [c]
              labels: {a: b}
              platforms: [linux/amd64]
              shm_size: 1g
              no_cache: true
              pull: true
              target: t
              network: host
              extra_hosts: ["b:1.1.1.1"]
              provenance: true
              sbom: foo
              privileged: true
              isolation: q
              entitlements: [e]
          c: {build: ./c}
        secrets: {s: {file: ./s}}
        """,
    ),
    _case(
        "build-context-of-service",
        "services:\n  a: {build: {additional_contexts: {w: 'service:b'}}}\n  b: {image: x}\n",
        wrong=(2, "services.a.build.additional_contexts.w"),
    ),
    _case(
        "build-secret-undefined", "services: {a: {build: {secrets: [q]}}}\n", wrong=(1, "services.a.build.secrets.0")
    ),
    _case("no-image", "services:\n  a: {command: x}\n", wrong=(2, "services.a")),
    _case(
        "container-names",
        "services:\n  a: {image: x, container_name: qq}\n  b: {image: x, container_name: qq}\n",
        wrong=(3, "services.b.container_name"),
    ),
    _service("container-name-scaled", "container_name: qq\nscale: 2", wrong=(5, "services.a.container_name")),
]

_BASE = """\
services:
  a:
    image: debian
    command: one two
    environment: {A: 1, B: 2}
    labels: [x=1, y=2]
    ports: ["80:80", "81:81"]
    volumes: [./a:/a, ./b:/b]
    dns: [1.1.1.1]
    tmpfs: /one
    expose: ["80"]
    depends_on: [b]
    healthcheck: {test: x, interval: 5s}
    logging: {driver: json-file, options: {a: 1, b: 2}}
    ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}
    networks: [default]
    build: ./one
    cap_add: [A]
    deploy: {replicas: 1, resources: {limits: {memory: 5m}}}
    env_file: one.env
    extra_hosts: ["a:1.1.1.1"]
    secrets: [s]
    devices: [/dev/a]
    tty: true
    profiles: []
    sysctls: {a: 1}
  b: {image: busybox}
secrets: {s: {file: ./s}}
"""
_ENV = {"one.env": "E=1\nF=1\n", "two.env": "F=2\n"}


def _over(name: str, text: str, **more: object) -> Case:
    """Make a case of a file that lies over a rich one."""
    body = "".join(f"    {line}\n" for line in dedent(text).strip("\n").splitlines())
    files = {**_ENV, "over.yaml": f"services:\n  a:\n{body}"}
    return _case(f"over-{name}", _BASE, "-f", "compose.yaml", "-f", "over.yaml", files=files, **more)


MERGES = [
    _over("scalars", "image: busybox\ncommand: [three]\ntty: false\nuser: u"),
    _over("environment", "environment: [B=3, C=4, A]\nlabels: {y: 3, z: 4}\nsysctls: [b=2]"),
    _over("ports", 'ports: ["80:80", "8081:81", {target: 81, published: "81", name: n}, 9]'),
    _over("volumes", "volumes: [./c:/b, {type: volume, target: /a}, /d]"),
    _over("lists", "dns: 2.2.2.2\ntmpfs: [/one, /two]\nexpose: [80, 81]\ncap_add: [A, B]"),
    _over("depends", "depends_on: {b: {condition: service_healthy}}"),
    _over("depends-same", "depends_on: [b]"),
    _over("health", "healthcheck: {test: [CMD, y], retries: 3}"),
    _over("logging", "logging: {options: {b: 3, c: 4}}"),
    _over("logging-driver", "logging: {driver: syslog, options: {c: 4}}"),
    _over("limits", "ulimits: {nofile: {soft: 1, hard: 2}, nproc: 7, core: 9}"),
    _over("build", "build: {dockerfile: D, args: {A: 1}}"),
    _over("build-context", "build: ./two"),
    _over("deploy", "deploy: {replicas: 3, resources: {limits: {cpus: 1}, reservations: {memory: 1m}}}"),
    _over("env-file", "env_file: [two.env, one.env]"),
    _over("hosts", 'extra_hosts: ["b:2.2.2.2", "a:1.1.1.1"]'),
    _over("hosts-same-name", 'extra_hosts: ["a:2.2.2.2"]'),
    _over("networks", "networks: {default: {aliases: [x]}}"),
    _over("secrets", "secrets: [{source: s, target: other}, {source: s, mode: 0400}]"),
    _over("devices", "devices: [/dev/b:/dev/a, /dev/c]"),
    _over("reset", "ports: !reset []\nenvironment: {A: !reset null}\ntty: !reset false\nbuild: !reset null"),
    _over("override", 'ports: !override ["9:9"]\nenvironment: !override {Z: 1}\nvolumes: !override []'),
    _over("reset-deep", "healthcheck: {interval: !reset null}\nlogging: {options: {a: !reset null}}"),
    _over(
        "nothing",
        """\
        command:
        healthcheck: {test: []}
        storage_opt: {size: }
        logging: {options: {a: }}
        labels: {x: }
        environment: {A: }
        sysctls: {a: }
        deploy:
        build: {args: {A: }}
        networks: {default: }
        dns: []
        """,
    ),
    _case(
        "over-nothing-networks",
        "services: {a: {image: x, networks: [n]}}\nnetworks: {n: {driver: d}}\n",
        *("-f", "compose.yaml", "-f", "over.yaml"),
        files={"over.yaml": "networks: {n: }\n"},
    ),
    _over(
        "override-paths",
        """\
        volumes: !override [./c:/c]
        env_file: !override two.env
        build: !override {context: !override ./c, additional_contexts: !override {x: ./x}}
        develop: !override {watch: [{path: ./w, action: rebuild}]}
        """,
    ),
    _case(
        "reset-in-what-is-extended",
        "services: {a: {image: debian, ports: [80], environment: {A: 1}, tty: true}}\n",
        *("-f", "compose.yaml", "-f", "over.yaml"),
        files={
            "over.yaml": (
                "services:\n  base: {image: x, user: u}\n"
                "  a: {extends: base, ports: !reset [], environment: !override {B: 2}, tty: !reset false}\n"
            )
        },
    ),
    _case(
        "reset-and-again",
        "services: {a: {image: debian, ports: [80], dns: [1.1.1.1]}}\n",
        *("-f", "compose.yaml", "-f", "two.yaml", "-f", "three.yaml"),
        files={
            "two.yaml": "services: {a: {ports: !reset [], dns: !override [2.2.2.2]}}\n",
            "three.yaml": "services: {a: {ports: [81], dns: [3.3.3.3]}}\n",
        },
    ),
    _case("reset-alone", "services: {a: {image: debian, ports: !reset [80], environment: {A: !reset 1, B: 2}}}\n"),
    _case("override-alone", "services: {a: {image: debian, ports: !override [80]}}\n"),
    _case(
        "reset-service",
        "services: {a: {image: debian}, b: {image: busybox}}\n",
        *("-f", "compose.yaml", "-f", "over.yaml"),
        files={"over.yaml": "services: {b: !reset {}}\n"},
    ),
    _case(
        "default-override",
        "services: {a: {image: debian, ports: [80]}}\n",
        files={"compose.override.yaml": "services: {a: {ports: [81]}, b: {image: busybox}}\n"},
    ),
    _case(
        "three-files",
        "name: one\nservices: {a: {image: debian}}\nnetworks: {n: {driver: x}}\n",
        *("-f", "compose.yaml", "-f", "two.yaml", "-f", "three.yaml"),
        files={
            "two.yaml": "name: two\nservices: {a: {networks: [n]}}\nnetworks: {n: {labels: {a: 1}}}\n",
            "three.yaml": "networks: {n: {labels: [b=2], driver: y, ipam: {config: [{subnet: 10.0.0.0/8}]}}}\n",
        },
    ),
    _case(
        "compose-file-variable",
        "services: {a: {image: debian}}\n",
        files={"two.yaml": "services: {a: {user: two}}\n"},
        env={"COMPOSE_FILE": "compose.yaml@two.yaml", "COMPOSE_PATH_SEPARATOR": "@"},
    ),
    _case(
        "file-in-directory",
        "services: {}\n",
        *("-f", "sub/compose.yaml"),
        files={"sub/compose.yaml": "services: {a: {build: ., volumes: [./x:/x]}}\n", "sub/.env": "A=1\n"},
    ),
    _case(
        "project-directory",
        "services: {}\n",
        *("--project-directory", ".", "-f", "sub/compose.yaml"),
        files={"sub/compose.yaml": "services: {a: {build: '${A}', volumes: [./x:/x]}}\n", ".env": "A=here\n"},
    ),
    _case("project-option", "name: one\nservices: {a: {image: '${COMPOSE_PROJECT_NAME}'}}\n", "-p", "given"),
    _case("project-name", "name: My.App_${A}\nservices: {a: {image: 'x${COMPOSE_PROJECT_NAME}'}}\n", env={"A": "9"}),
    _case("project-variable", "name: one\nservices: {a: {image: x}}\n", env={"COMPOSE_PROJECT_NAME": "other"}),
    _case("project-wrong", "services: {a: {image: x}}\n", "-p", "No Name"),
    _case("file-absent", "services: {a: {image: x}}\n", "-f", "absent.yaml"),
]

EXTENDS = [
    _case(
        "extends-same-file",
        """\
        services:
          base: {image: debian, environment: {A: 1, B: 2}, ports: ["80:80"], command: x, volumes: [./a:/a]}
          a:
            extends: base
            environment: [B=3]
            ports: ["81:81"]
          b: {extends: {service: a}, command: [y]}
        """,
    ),
    _case(
        "extends-file",
        "services: {a: {extends: {file: sub/base.yaml, service: base}, environment: {B: 2}, build: {args: {A: 1}}}}\n",
        files={
            "sub/base.yaml": (
                "services:\n  base: {extends: {file: more/root.yaml, service: root}, build: ., env_file: e.env}\n"
                "  other: {image: x}\n"
            ),
            "sub/e.env": "A=1\nB=1\n",
            "sub/more/root.yaml": (
                "services: {root: {volumes: [./v:/v], hostname: h, develop: {watch: [{path: ., action: rebuild}]}}}\n"
            ),
        },
    ),
    _case(
        "extends-keeps",
        """\
        services:
          base: {image: debian, depends_on: [b], links: [b], networks: [n], secrets: [s], profiles: [p]}
          a: {extends: base, profiles: []}
          b: {image: busybox}
        networks: {n: }
        secrets: {s: {file: ./s}}
        """,
    ),
    _case(
        "extends-resets",
        """\
        services:
          base: {image: debian, ports: [80], environment: {A: 1, B: 2}, command: x}
          a: {extends: base, ports: !reset [], environment: !override {C: 3}}
        """,
    ),
    _case("extends-unknown", "services:\n  a: {extends: b}\n", wrong=(2, "services.a.extends")),
    _case(
        "extends-unknown-in-file",
        "services:\n  a: {extends: {file: b.yaml, service: x}}\n",
        files={"b.yaml": "services: {b: {image: x}}\n"},
        wrong=(2, "services.a.extends"),
    ),
    _case(
        "extends-absent-file",
        "services:\n  a: {extends: {file: b.yaml, service: x}}\n",
        wrong=(2, "services.a.extends"),
    ),
    _case(
        "extends-ring",
        "services:\n  a: {extends: b}\n  b: {extends: a}\n",
        wrong=(2, "services.a.extends"),
    ),
    _case("extends-itself", "services:\n  a: {extends: a, image: x}\n", wrong=(2, "services.a.extends")),
    _case(
        "extends-ring-of-files",
        "services:\n  a: {extends: {file: b.yaml, service: b}}\n",
        files={"b.yaml": "services:\n  b: {extends: {file: compose.yaml, service: a}}\n"},
        wrong=(2, "services.a.extends"),
    ),
    _case("extends-no-service", "services:\n  a: {image: x, extends: {file: x}}\n", wrong=(2, "services.a.extends")),
    _case(
        "extends-across-override",
        "services: {base: {image: debian, user: one}, a: {extends: base, hostname: x}}\n",
        *("-f", "compose.yaml", "-f", "over.yaml"),
        files={"over.yaml": "services: {base: {user: two, tty: true}, a: {domainname: d}}\n"},
    ),
]

INCLUDES = [
    _case(
        "include",
        "include: [sub/compose.yaml]\nservices: {a: {image: debian, depends_on: [b], networks: [n]}}\n",
        files={
            "sub/compose.yaml": (
                "services: {b: {build: ., volumes: [./x:/x, data:/d], networks: [n], env_file: e.env}}\n"
                "networks: {n: {driver: bridge}}\nvolumes: {data: }\n"
            ),
            "sub/e.env": "A=1\n",
        },
    ),
    _case(
        "include-long",
        """\
        include:
          - path: [sub/one.yaml, sub/two.yaml]
            project_directory: other
            env_file: [a.env]
          - sub/three.yaml
        services: {a: {image: 'debian:${A:-none}'}}
        """,
        files={
            "sub/one.yaml": "services: {b: {build: ., image: '${A}${B}', environment: [A, B]}}\n",
            "sub/two.yaml": "services: {b: {user: two}}\n",
            "sub/three.yaml": "include: [four.yaml]\nservices: {c: {image: 'c${D}'}}\n",
            "sub/four.yaml": "services: {d: {image: 'd$$D'}}\n",
            "sub/.env": "D=sub\n",
            "a.env": "A=file\nB=file\n",
            "other/x": "",
        },
        env={"B": "environment"},
    ),
    _case(
        "include-conflict",
        "include: [b.yaml]\nservices:\n  b: {image: debian}\n",
        files={"b.yaml": "services:\n  b: {image: busybox}\n"},
        wrong=(3, "services.b"),
    ),
    _case(
        "include-twice",
        "include: [b.yaml, c.yaml]\nservices: {a: {image: debian}}\n",
        files={
            "b.yaml": "include: [d.yaml]\n",
            "c.yaml": "include: [d.yaml]\n",
            "d.yaml": "services: {d: {image: d}}\n",
        },
    ),
    _case(
        "include-then-override",
        "include: [b.yaml]\nservices: {a: {image: debian}}\n",
        *("-f", "compose.yaml", "-f", "over.yaml"),
        files={
            "b.yaml": "services: {b: {image: busybox, ports: [80], environment: {A: 1}}}\n",
            "over.yaml": "services: {b: {ports: [81], environment: {A: 2}}}\n",
        },
    ),
    _case("include-absent", "services: {a: {image: x}}\ninclude:\n  - b.yaml\n", wrong=(3, "include")),
    _case(
        "include-ring",
        "include: [b.yaml]\nservices: {a: {image: x}}\n",
        files={"b.yaml": "include: [compose.yaml]\nservices: {b: {image: x}}\n"},
        place=("b.yaml", 1, "include"),
    ),
    _case(
        "include-text", "include: b.yaml\nservices: {a: {image: x}}\n", files={"b.yaml": "{}\n"}, wrong=(1, "include")
    ),
    _case(
        "include-extends",
        "include: [sub/b.yaml]\nservices: {a: {extends: {file: sub/b.yaml, service: b}, image: other}}\n",
        files={"sub/b.yaml": "services: {b: {image: busybox, volumes: [./x:/x]}}\n"},
    ),
]

_PROFILED = """\
services:
  a: {image: debian}
  b: {image: busybox, profiles: [one, two], networks: [n]}
  c: {image: busybox, profiles: [three], volumes: [data:/d], depends_on: [b]}
  d: {image: busybox, depends_on: {b: {condition: service_started, required: false}}}
networks: {n: }
volumes: {data: }
"""
PROFILES = [
    _case("profiles-none", _PROFILED),
    _case("profiles-one", _PROFILED, "--profile", "one"),
    _case("profiles-variable", _PROFILED, env={"COMPOSE_PROFILES": "zero,two"}),
    _case("profiles-both", _PROFILED, "--profile", "three", env={"COMPOSE_PROFILES": "one"}),
    _case("profiles-all", _PROFILED, "--profile", "*"),
    _case("profiles-needed", _PROFILED, "--profile", "three", wrong=(4, "services.c.depends_on.b")),
    _case(
        "profiles-linked",
        "services:\n  a: {image: x, profiles: [p]}\n  b: {image: y, links: [a]}\n",
        wrong=(3, "services.b.depends_on.a"),
    ),
    _case("profiles-inactive-wrong", "services:\n  a: {image: x, profiles: [p], networks: [q]}\n  b: {image: y}\n"),
    _case("profiles-none-left", "services:\n  a: {image: x, profiles: [p]}\nvolumes: {v: }\n"),
]

LARGE = [
    _case(
        "three-tiers",
        """\
        name: shop
        x-logging: &logging
          logging:
            driver: json-file
            options: {max-size: "${LOG_SIZE:-10m}", max-file: "3"}
        services:
          web:
            <<: *logging
            build:
              context: ./web
              target: production
              args: {VERSION: "${VERSION:-dev}"}
            image: shop/web:${VERSION:-dev}
            ports:
              - "${PORT:-8080}:80"
            environment:
              DATABASE_URL: postgres://shop@db/shop
              CACHE: redis://cache:6379
              DEBUG:
            depends_on:
              db: {condition: service_healthy}
              cache: {condition: service_started}
              migrate: {condition: service_completed_successfully}
            networks: [front, back]
            secrets: [password]
            restart: unless-stopped
            deploy:
              replicas: 2
              resources:
                limits: {cpus: "0.50", memory: 256M}
          migrate:
            <<: *logging
            image: shop/web:${VERSION:-dev}
            command: ["./manage", "migrate"]
            depends_on: {db: {condition: service_healthy}}
            networks: [back]
          db:
            <<: *logging
            image: postgres:16
            environment:
              POSTGRES_PASSWORD_FILE: /run/secrets/password
              POSTGRES_USER: shop
            volumes:
              - db:/var/lib/postgresql/data
              - type: bind
                source: ./db/init
                target: /docker-entrypoint-initdb.d
                read_only: true
            healthcheck:
              test: ["CMD-SHELL", "pg_isready -U $${POSTGRES_USER}"]
              interval: 5s
              timeout: 3s
              retries: 10
              start_period: 30s
            secrets: [{source: password, mode: 0400}]
            networks: [back]
            shm_size: 128m
          cache:
            image: redis:7
            command: redis-server --save '' --appendonly no
            networks: {back: {aliases: [redis]}}
            tmpfs: [/data]
            read_only: true
          adminer:
            image: adminer
            profiles: [debug]
            ports: ["8081:8080"]
            networks: [back, front]
        networks:
          front: {}
          back: {internal: true}
        volumes:
          db: {}
        secrets:
          password: {file: ./password.txt}
        """,
        files={".env": "VERSION=1.4.2\nPORT=80\n"},
    ),
    _case(
        "many-services",
        "x-base: &base {image: 'app:${TAG:-1}', restart: always, environment: &env {LOG: info}}\nservices:\n"
        + "".join(
            f"  service{number}:\n    <<: *base\n    hostname: host{number}\n    ports: ['{8000 + number}:80']\n"
            f"    environment: {{<<: *env, NUMBER: {number}}}\n"
            + (f"    depends_on: [service{number // 2}]\n" if number else "")
            for number in range(60)
        ),
    ),
    _case(
        "monitoring",
        """\
        version: "3.9"
        services:
          prometheus:
            image: prom/prometheus:v2.50.0
            user: "65534"
            command:
              - --config.file=/etc/prometheus/prometheus.yml
              - --storage.tsdb.retention.time=${RETENTION:-15d}
            configs:
              - source: prometheus
                target: /etc/prometheus/prometheus.yml
            volumes: [prometheus:/prometheus]
            extra_hosts: ["host.docker.internal:host-gateway"]
            expose: [9090]
          grafana:
            image: grafana/grafana
            environment: [GF_SECURITY_ADMIN_PASSWORD__FILE=/run/secrets/grafana, "GF_SERVER_ROOT_URL=${URL:?set URL}"]
            ports: ["127.0.0.1:3000:3000"]
            secrets: [grafana]
            links: [prometheus]
            labels:
              traefik.enable: true
              traefik.http.routers.grafana.rule: Host(`grafana.${DOMAIN-localhost}`)
            ulimits: {nofile: {soft: 20000, hard: 40000}}
          node:
            image: prom/node-exporter
            pid: host
            network_mode: host
            cap_drop: [ALL]
            security_opt: ["no-new-privileges:true"]
            volumes: ["/:/host:ro,rslave"]
            command: ["--path.rootfs=/host"]
            stop_grace_period: 2s
            oom_score_adj: -500
        configs:
          prometheus:
            content: |
              global: {scrape_interval: 15s}
              scrape_configs:
                - job_name: 'node'
                  static_configs: [{targets: ['$${NODE}', "${NODE:-localhost}:9100"]}]
        secrets: {grafana: {environment: GRAFANA_PASSWORD}}
        volumes: {prometheus: {labels: {backup: "no"}}}
        """,
        env={"URL": "https://grafana"},
    ),
]

CASES = [*SCALARS, *VARIABLES, *ENV_FILES, *SERVICES, *MERGES, *EXTENDS, *INCLUDES, *PROFILES, *LARGE]
