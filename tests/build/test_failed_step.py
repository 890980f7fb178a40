"""A RUN that fails leaves its root file system for whoever wants to look: as a container, which leaves nothing."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import pylxc
from pylxc import BuildError

DOCKERFILE = """\
FROM busybox
ENV COLOUR=blue
WORKDIR /work
RUN echo before >/work/before
RUN echo half >/work/half && rm /etc/passwd && false
RUN echo never >/work/never
"""


@pytest.fixture
def failing(busybox, engine, tmp_path):
    """Build what fails; returns the error."""
    (tmp_path / "context").mkdir()

    def build(text: str = DOCKERFILE) -> BuildError:
        (tmp_path / "context/Dockerfile").write_text(text)
        with pytest.raises(BuildError) as caught:
            pylxc.Image.build(tmp_path / "context", engine=engine)
        error = caught.value
        del caught
        return error.with_traceback(None)

    return build


def images(engine) -> list[str]:
    return [image.id for image in pylxc.Image.list(engine=engine)]


def test_the_root_of_a_step_that_failed(failing, engine):
    before = images(engine)
    error = failing()
    assert (error.step, error.line, error.exit_code) == (5, 5, 1)
    with error.container as container:
        assert container.status() == "running"
        assert error.container is container
        script = "pwd; echo $COLOUR; cat before half; ls /etc/passwd never 2>&1"
        result = container.exec(["sh", "-c", script], check=False)
        assert result.text.splitlines()[:4] == ["/work", "blue", "before", "half"]
        assert result.text.count("No such file") == 2
        container.exec(["sh", "-c", "echo more >>half"])
        assert container.exec("cat half").text == "half\nmore\n"
        assert "/work/half" in [change.path for change in container.diff()]
    assert images(engine) == before
    assert list(Path(engine.root, "staging").iterdir()) == []


def test_nobody_looks(failing, engine):
    error = failing()
    assert len(list(Path(engine.root, "staging").iterdir())) == 1
    layers = set(Path(engine.root, "layers").iterdir())
    del error
    gc.collect()
    assert list(Path(engine.root, "staging").iterdir()) == []
    assert set(Path(engine.root, "layers").iterdir()) == layers  # what was there is cache


def test_it_goes_in_the_middle_of_a_transaction(failing, engine):
    """The garbage collector comes when it likes, in whichever thread."""
    error = failing()
    staged = engine.root / "staging"
    with engine.store._database.writing(durable=False):
        del error
        gc.collect()
        assert list(staged.iterdir())
    assert list(staged.iterdir()) == []


def test_the_container_outlives_the_error(failing, engine):
    before = images(engine)
    container = failing().container
    gc.collect()
    assert container.exec("cat half").text == "half\n"
    assert len(images(engine)) == len(before) + 1
    container.remove(force=True)
    assert images(engine) == before


def test_an_image_that_was_tagged_meanwhile_stays(failing, engine):
    with failing().container as container:
        container.image.tag("kept")
    assert pylxc.Image.get("kept", engine=engine).layers == container.image.layers


def test_steps_that_are_no_text_for_a_shell(failing, engine):
    error = failing('FROM busybox\nRUN ["/bin/ls", "/nowhere"]\n')
    with error.container as container:
        assert container.exec(["echo", "here"]).text == "here\n"


@pytest.mark.parametrize(("program", "exit_code"), [("/nowhere/program", 127), ("/etc/passwd", 126)])
def test_a_program_that_the_kernel_does_not_execute(failing, program, exit_code):
    error = failing(f'FROM busybox\nRUN echo before >/before\nRUN ["{program}"]\n')
    assert (error.step, error.exit_code) == (3, exit_code)
    with error.container as container:
        assert container.exec("cat /before").text == "before\n"


def test_a_user_that_there_is_not_leaves_nothing_to_look_into(failing, engine):
    error = failing("FROM busybox\nUSER nobody-here\nRUN true\n")
    assert error.container is None
    assert list(Path(engine.root, "staging").iterdir()) == []


def test_no_shell_to_wait_in(failing, engine):
    before = images(engine)
    error = failing('FROM busybox\nRUN ["/bin/busybox", "rm", "-r", "/bin", "/nowhere"]\n')
    with pytest.raises(pylxc.SpawnError, match="sh"):
        _ = error.container
    assert images(engine) == before


def test_steps_that_run_nothing_have_none(failing):
    assert failing("FROM busybox\nCOPY nothing /\n").container is None


def test_pickled_it_has_none(failing):
    error = failing()
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    assert again.container is None
    assert (str(again), again.exit_code, again.output) == (str(error), error.exit_code, error.output)


def test_a_process_that_is_killed_leaves_it_to_the_next(engine, busybox, tmp_path):
    """Both what was kept and what was made of it: container, image and staging go with the next process."""
    before = images(engine)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    program = f"""
import os, signal, pylxc
engine = pylxc.Engine({str(engine.root)!r})
errors = []
for _ in range(2):
    try:
        pylxc.Image.build({str(tmp_path)!r}, engine=engine)
    except pylxc.BuildError as error:
        errors.append(error)
print(errors[0].container.exec("cat half").text, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (-9, "half\n\n"), done.stderr
    again = pylxc.Engine(engine.root)
    assert pylxc.Container.list(all=True, engine=again) == []
    assert images(again) == before
    assert list(Path(engine.root, "staging").iterdir()) == []
