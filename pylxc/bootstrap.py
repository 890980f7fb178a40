"""Makes base images from a distribution's own mirror.

Invariant: the tool's tree becomes a layer whole, or not at all.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from pylxc.errors import SpecError, StoreError, UnsupportedError
from pylxc.image import Image
from pylxc.imageconfig import ImageConfig

if TYPE_CHECKING:
    from typing import IO

    from pylxc.engine import Engine

LAST_LINES = 15  # of the tool's output that an error carries
PATIENCE = 30.0  # s that the tool has to remove its own temporary files
COMPONENTS = {"debian": "main", "ubuntu": "main,universe"}
DEFAULT_MIRRORS = {"ubuntu": "http://archive.ubuntu.com/ubuntu"}
CONFIG = ImageConfig(cmd=("bash",))


def bootstrap(  # noqa: PLR0913, PLR0917  those of the public method
    engine: Engine, distribution: str, suite: str, packages: tuple[str, ...], mirror: str | None, ref: str
) -> Image:
    """See :meth:`pylxc.Image.bootstrap`."""
    for option, value in (("distribution", distribution), ("suite", suite), *(("packages", name) for name in packages)):
        if not value or value.startswith("-") or not value.replace("-", "").replace(".", "").replace("+", "").isalnum():
            raise SpecError(option, value, 'give a plain name, such as "debian", "bookworm" or "redis-server"')
    if distribution not in COMPONENTS:
        raise SpecError("distribution", distribution, f"there are {', '.join(sorted(COMPONENTS))}")
    engine.store  # noqa: B018  a store that cannot be written is told of before minutes are spent
    mirror = mirror or DEFAULT_MIRRORS.get(distribution)
    if tool := shutil.which("mmdebstrap"):
        return _by_mmdebstrap(engine, tool, suite, packages, mirror, COMPONENTS[distribution], ref)
    if tool := shutil.which("debootstrap"):
        return _by_debootstrap(engine, tool, suite, packages, mirror, ref)
    raise UnsupportedError("bootstrap", "needs mmdebstrap or debootstrap; install one (apt-get install mmdebstrap)")


def _by_mmdebstrap(  # noqa: PLR0913, PLR0917
    engine: Engine, tool: str, suite: str, packages: tuple[str, ...], mirror: str | None, components: str, ref: str
) -> Image:
    command = [tool, "--variant=minbase", "--format=tar", f"--components={components}"]
    command += [f"--include={','.join(packages)}"] if packages else []
    command += [suite, "-", *([mirror] if mirror else [])]
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words)
        try:
            return _import_checked(engine, process, words, suite, ref)
        finally:
            _end(process)


def _import_checked(engine: Engine, process: subprocess.Popen[bytes], words: IO[bytes], suite: str, ref: str) -> Image:
    """Import what the tool writes; the image is tagged only when the tool says that it was all."""
    assert process.stdout is not None  # noqa: S101
    try:
        message = f"bootstrap of {suite}"
        image = Image.from_tar(process.stdout, None, config=CONFIG, message=message, engine=engine)
    except StoreError as error:
        if process.wait():
            raise StoreError(suite, _last(words)) from error
        raise
    if process.wait():
        if not image.refs:  # else the very same one was there before
            image.remove()
        raise StoreError(suite, _last(words))
    image.tag(ref)
    return Image.get(ref, engine=engine)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the tool if it still runs, giving it the time to remove what it made."""
    assert process.stdout is not None  # noqa: S101  it is a pipe
    process.stdout.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _by_debootstrap(  # noqa: PLR0913, PLR0917
    engine: Engine, tool: str, suite: str, packages: tuple[str, ...], mirror: str | None, ref: str
) -> Image:
    with engine.store.leases.take() as lease:  # removed by the next process when this one is killed
        target = f"{lease.stage()}/root"
        command = [tool, "--variant=minbase"]
        command += [f"--include={','.join(packages)}"] if packages else []
        command += [suite, target, *([mirror] if mirror else [])]
        with tempfile.TemporaryFile() as words:
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, check=False).returncode:
                raise StoreError(suite, _last(words))
        return Image.from_directory(target, ref, config=CONFIG, engine=engine)


def _last(words: IO[bytes]) -> str:
    words.seek(0)
    text = words.read().decode("utf-8", "replace").rstrip()
    return "the bootstrap failed:\n" + "\n".join(text.splitlines()[-LAST_LINES:])
