"""Which files are found, what a project is called, what is told, and where an error points."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path

import pytest

from pylxc.compose.files.loading import load
from pylxc.compose.files.projects import NAMES
from pylxc.compose.files.schema import SERVICE_KEYS
from pylxc.errors import ComposeError

SERVICE = "services: {a: {image: debian}}\n"


def read(place: Path, text: str = SERVICE, name: str = "compose.yaml", **options: object) -> object:
    (place / name).write_text(text)
    return load([place / name], **{"environment": {}, "project": "app", **options})


@pytest.mark.parametrize("name", NAMES)
def test_files_are_found_by_their_names_above(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).write_text("a: {image: debian}\n" if name.startswith("fig") else SERVICE)
    (tmp_path / "below" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "below" / "more")
    model = load([], environment={})
    assert model.files == (tmp_path / name,)
    assert list(model.services) == ["a"]


def test_the_first_name_counts_with_its_own_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "docker-compose.override.yml"):
        (tmp_path / name).write_text(SERVICE)
    (tmp_path / "compose.override.yaml").write_text("services: {a: {user: over}}\n")
    monkeypatch.chdir(tmp_path)
    model = load([], environment={})
    assert model.files == (tmp_path / "compose.yaml", tmp_path / "compose.override.yaml")
    assert model.services["a"]["user"] == "over"


def test_no_file_is_an_error_that_names_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ComposeError, match="there is none of compose") as caught:
        load([], environment={})
    assert caught.value.file == str(tmp_path)


def test_the_standard_input_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"services: {a: {build: .}}\n")))
    model = load([Path("-")], environment={})
    assert model.services["a"]["build"]["context"] == str(tmp_path)
    assert model.name == tmp_path.name


def test_the_environment_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYLXC_TAG", "12")
    model = read(tmp_path, "services: {a: {image: 'debian:$PYLXC_TAG'}}\n", environment=None)
    assert model.services["a"]["image"] == "debian:12"


def test_the_usual_variables_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TAG=file\n")
    text = "services: {a: {image: 'debian:${TAG:-none}'}}\n"
    for value, tag in (("1", "none"), ("true", "none"), ("false", "file")):
        model = read(tmp_path, text, environment={"COMPOSE_DISABLE_ENV_FILE": value})
        assert model.services["a"]["image"] == f"debian:{tag}"


@pytest.mark.parametrize(
    ("directory", "name"), [("My App.2", "myapp2"), ("_-x_y-", "x_y-"), ("ÜÄ", "default"), ("UPPER", "upper")]
)
def test_a_project_is_called_like_its_directory(directory: str, name: str, tmp_path: Path) -> None:
    (tmp_path / directory).mkdir()
    assert read(tmp_path / directory, project=None).name == name


def test_a_name_goes_before_another(tmp_path: Path) -> None:
    text = f"name: said\n{SERVICE}"
    variables = {"COMPOSE_PROJECT_NAME": "variable"}
    assert read(tmp_path, text, project="given", environment=variables).name == "given"
    assert read(tmp_path, text, project=None, environment=variables).name == "variable"
    assert read(tmp_path, text, project=None).name == "said"


def test_a_model_tells_what_a_user_should_hear(tmp_path: Path) -> None:
    text = (
        'version: "3"\nservices:\n  a: {image: "debian:$TAG$TAG"}\n'
        "  b:\n    image: debian\n    command: echo a | cat\n    entrypoint: sh -c 'a | b'\n"
    )
    model = read(tmp_path, text)
    assert sorted(model.warnings) == sorted(
        [
            'The "TAG" variable is not set. Defaulting to a blank string.',
            f"{tmp_path}/compose.yaml: the attribute `version` is obsolete: it is ignored, and can be removed",
            (
                f"{tmp_path}/compose.yaml:6: services.b.command: no shell reads it: '| cat' is left out; "
                "write [sh, -c, ...] to have one"
            ),
        ]
    )


def test_services_that_no_profile_asks_for_are_kept_apart(tmp_path: Path) -> None:
    text = "services: {a: {image: x}, b: {image: y, profiles: [p], ports: [80], env_file: absent.env}}\n"
    model = read(tmp_path, text)
    assert list(model.services) == ["a"]
    assert model.disabled["b"]["ports"] == [{"mode": "ingress", "target": 80, "protocol": "tcp"}]
    assert model.disabled["b"]["networks"] == {"default": None}
    assert read(tmp_path, text.replace(", env_file: absent.env", ""), profiles=["p"]).disabled == {}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("volumes: [data:/x:ro:rw]", "volumes.0"),
        ("links: ['b:']", "links.0"),
        ("labels: {a: !!binary /w==}", "labels.a"),
        ("post_start: [{command: }]", "post_start.0"),
        ("environment: {A: !!int x}", "environment.A"),
        ("env_file: [quoted.env]", "env_file"),
    ],
)
def test_what_docker_compose_guesses_at_is_refused(text: str, key: str, tmp_path: Path) -> None:
    """It drops the fourth part of a mount, takes what follows a quote for a variable without a name, and so on."""
    (tmp_path / "quoted.env").write_text("A='x' y\n")
    with pytest.raises(ComposeError) as caught:
        read(tmp_path, f"services:\n  b: {{image: x}}\n  a:\n    image: x\n    {text}\n")
    assert caught.value.key == f"services.a.{key}"


def test_x_keys_are_kept_wherever_they_stand(tmp_path: Path) -> None:
    model = read(tmp_path, "x-top: [1]\nservices: {a: {image: x, x-own: {y: no}}}\nnetworks: {default: {x-n: 1}}\n")
    assert model.document["x-top"] == [1]
    assert model.services["a"]["x-own"] == {"y": "no"}
    assert model.document["networks"]["default"]["x-n"] == 1


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path: Path) -> None:
    for key in SERVICE_KEYS:
        wrong = f"{key}q"
        with pytest.raises(ComposeError, match=f"'{wrong}' is not known here: did you mean '{key}'") as caught:
            read(tmp_path, f"services:\n  a:\n    image: debian\n    {wrong}: 1\n")
        assert (caught.value.line, caught.value.key) == (4, f"services.a.{wrong}")


def test_every_key_refuses_what_it_cannot_be(tmp_path: Path) -> None:
    """No key of a service takes both a nonsensical mapping and a nonsensical sequence without a word."""
    for key in sorted(set(SERVICE_KEYS) - {"image"}):
        for value in ("{a: {b: {c: [d]}}}", "[[[a]]]"):
            with pytest.raises(ComposeError) as caught:
                read(tmp_path, f"services:\n  a:\n    image: debian\n    {key}: {value}\n")
            assert caught.value.line == 4, key
            assert caught.value.key.startswith(f"services.a.{key}"), key


def test_an_error_points_to_the_file_that_says_it(tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text("services:\n  a:\n    ports:\n      - 80\n      - x\n")
    (tmp_path / "compose.yaml").write_text(SERVICE)
    with pytest.raises(ComposeError) as caught:
        load([tmp_path / "compose.yaml", tmp_path / "over.yaml"], environment={})
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own
    assert (error.file, error.line, error.key) == (str(tmp_path / "over.yaml"), 5, "services.a.ports.1")
    assert str(error).startswith(f"{tmp_path}/over.yaml:5: services.a.ports.1: 'x' is no container port")


def test_a_later_file_can_complete_what_an_earlier_one_begins(tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text(
        "services: {a: {image: debian, depends_on: {b: {condition: service_healthy}}}}\n"
    )
    (tmp_path / "compose.yaml").write_text("services: {a: {depends_on: {b: {restart: true}}}, b: {image: x}}\n")
    model = load([tmp_path / "compose.yaml", tmp_path / "over.yaml"], environment={})
    assert model.services["a"]["depends_on"] == {
        "b": {"condition": "service_healthy", "restart": True, "required": True}
    }


def test_models_do_not_share_what_files_share(tmp_path: Path) -> None:
    text = "x-l: &l {A: 1}\nservices: {a: {image: x, labels: *l}, b: {image: x, labels: *l}, c: {extends: a}}\n"
    model = read(tmp_path, text)
    model.services["a"]["labels"]["B"] = "2"
    assert model.services["b"]["labels"] == model.services["c"]["labels"] == {"A": "1"}
