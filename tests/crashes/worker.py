"""A process that does one thing after the other to a store, by chance, and writes down what it is about to do and did.

Hides what it does and how that is written down. Invariant: a line "begin" is written before the store is touched, the
line "done" after what was done was acknowledged; each by one write, so that it is there whatever becomes of the
process.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
import time
from typing import TYPE_CHECKING

from attrs import field, frozen
from operations import pull

import pylxc
from pylxc.imageconfig import ImageConfig
from pylxc.store import Store

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("removed meanwhile", "it was removed", "is missing", "was removed")  # of a StoreError that others are behind
ARCHIVES = 6


@frozen
class Event:
    """What a worker did, or was about to do (``end`` is None): ``image`` and ``ref`` as far as known. Times in ns."""

    verb: str
    ref: str
    image: str
    begin: int
    end: int | None
    refused: bool = False


@frozen
class Worker:
    """One of several processes on the store ``root``; ``number`` is its own."""

    number: int
    seed: int
    root: Path
    material: Path
    log: Path
    end: Path
    chance: random.Random = field(init=False)
    own: list[str] = field(factory=list, init=False)  # refs of images that nobody else touches

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "chance", random.Random(self.seed))

    def run(self) -> None:
        """Work until there is the file that ends it. Errors that others are not behind are raised."""
        engine = pylxc.Engine(self.root)
        verbs = (self._load, self._build, self._tag, self._untag, self._remove, self._gc, self._save, self._pull)
        verbs += (self._keep, self._drop)
        fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        count = 0
        while not self.end.exists():
            count += 1
            verb = self.chance.choice(verbs)
            prepared = verb(engine, count)
            if prepared is None:
                continue
            ref, image, work = prepared
            self._say(fd, "begin", verb.__name__[1:], ref, image)
            try:
                made = work()
            except (pylxc.ImageNotFound, pylxc.Conflict) as error:
                self._say(fd, "refused", str(error))
            except pylxc.StoreError as error:
                if not any(words in str(error) for words in WORDS):
                    raise
                self._say(fd, "refused", str(error))
            else:
                self._say(fd, "done", made if isinstance(made, str) else image)

    def _say(self, fd: int, *words: str) -> None:
        os.write(fd, (json.dumps([time.monotonic_ns(), *words]) + "\n").encode())

    def _some(self, engine: pylxc.Engine) -> pylxc.Image | None:
        """Return an image that everybody may touch."""
        images = [image for image in pylxc.Image.list(engine=engine) if "owner" not in image.config.labels]
        return self.chance.choice(images) if images else None

    # -- what it does: the reference, the image and the work, as far as there is something to do -----------------------

    def _load(self, engine: pylxc.Engine, _count: int):
        name = f"archive{self.chance.randrange(ARCHIVES)}"
        return name, "", lambda: pylxc.Image.load(self.material / f"{name}.tar", engine=engine).id

    def _build(self, engine: pylxc.Engine, count: int):
        ref = f"built:{self.chance.randrange(4)}"
        args = {"WHAT": str(self.chance.randrange(3))}
        no_cache = self.chance.random() < 0.5
        context = self.material / "context"
        base = self.chance.choice(("scratch", "archive0:1", "archive3:1"))
        text = f"FROM {base}\nARG WHAT\nWORKDIR /w$WHAT\nCOPY one two /srv$WHAT/\nCOPY three /three$WHAT\n"
        dockerfile = self.log.with_suffix(f".{count}.dockerfile")
        dockerfile.write_text(text)

        def build() -> str:
            made = pylxc.Image.build(
                context, dockerfile=dockerfile, tag=ref, args=args, no_cache=no_cache, engine=engine
            )
            return made.id

        return ref, "", build

    def _tag(self, engine: pylxc.Engine, _count: int):
        image = self._some(engine)
        ref = f"moving:{self.chance.randrange(4)}"
        return None if image is None else (ref, image.id, lambda: image.tag(ref))

    def _untag(self, engine: pylxc.Engine, _count: int):
        ref = f"moving:{self.chance.randrange(4)}"
        return ref, "", lambda: engine.image(ref).untag(ref)

    def _remove(self, engine: pylxc.Engine, _count: int):
        image = self._some(engine)
        return None if image is None else ("", image.id, image.remove)

    def _gc(self, engine: pylxc.Engine, _count: int):
        def collect() -> None:
            database = Store(self.root).leases._database
            assert database._connection is not None
            database._connection.close()
            database._connection = None

        if self.chance.random() < 0.3:
            return "", "", lambda: engine.prune(images=False)
        return "", "", collect

    def _save(self, engine: pylxc.Engine, _count: int):
        image = self._some(engine)
        if image is None:
            return None

        def save() -> None:
            out = io.BytesIO()
            image.save(out)
            _check_archive(out.getvalue(), image.id)

        return "", image.id, save

    def _pull(self, engine: pylxc.Engine, _count: int):
        tag = self.chance.choice("12")
        return f"app:{tag}", "", lambda: pull(self.material, engine, tag).id

    def _keep(self, engine: pylxc.Engine, count: int):
        """Make an image that is this process's own: it is there until this process removes it."""
        if len(self.own) >= 3:
            return None
        ref = f"own-{self.number}:{count}"
        directory = self.log.with_suffix(f".{count}")
        directory.mkdir()
        (directory / "file").write_text(ref)
        config = ImageConfig(labels={"owner": str(self.number)})

        def keep() -> str:
            made = pylxc.Image.from_directory(directory, ref, config=config, engine=engine)
            self.own.append(ref)
            return made.id

        return ref, "", keep

    def _drop(self, engine: pylxc.Engine, _count: int):
        if not self.own:
            return None
        ref = self.own.pop(self.chance.randrange(len(self.own)))
        image = pylxc.Image.get(ref, engine=engine)
        return ref, image.id, image.remove


def _check_archive(data: bytes, image: str) -> None:
    """What was saved is whole, and is the image."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        blobs = {}
        for member in tar:
            file = tar.extractfile(member)
            if member.name.startswith("blobs/sha256/") and file is not None:
                blobs[member.name[13:]] = file.read()
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in blobs.items())
    assert image[7:] in blobs


def events(log: Path) -> list[Event]:
    """Return what a worker wrote down, the last of it unfinished where it was killed."""
    found: list[Event] = []
    for line in log.read_text().splitlines() if log.exists() else ():
        moment, what, *words = json.loads(line)
        if what == "begin":
            verb, ref, image = words
            found.append(Event(verb, ref, image, moment, None))
        else:
            last = found[-1]
            image = words[0] if what == "done" else last.image
            found[-1] = Event(last.verb, last.ref, image or last.image, last.begin, moment, refused=what == "refused")
    return found
