"""Attack class 14: what a registry may not learn, and what it may not put into the store.

Each attack is a script of a registry in this process. It is carried out, and then once more with the one defence that
it is meant for unwritten: then it succeeds, by the canary. The canaries are secrets, which another host must not see,
and the bytes of the store.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sqlite3
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest
from attrs import evolve, frozen
from fake import Fake, digest_of, running
from pictures import CONFIG, INDEX, LAYER, MANIFEST, config, dump, layer_tar
from weakening import unwritten

from pylxc import documents
from pylxc.documents import Descriptor
from pylxc.errors import IntegrityError, RegistryError, UnsupportedError
from pylxc.exchange import incoming
from pylxc.exchange.incoming import Incoming
from pylxc.exchange.pull import _Pull, pull
from pylxc.reference import Reference
from pylxc.registry.client import Client, Repository
from pylxc.registry.download import Download
from pylxc.registry.settings import HostSettings
from pylxc.registry.tokens import Tokens
from pylxc.registry.transport import Transport
from pylxc.runtime import rootless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    import pylxc
    from pylxc.registry.settings import Settings

DATA = b"blob" * 100
BLOB = Descriptor("text/plain", digest_of(DATA), len(DATA))
PASSWORD = "hunter2-hunter2"  # noqa: S105  of nobody
BASIC = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, BASIC, "token-of-bearer", "refresh-me", "tell-nobody")
BLOBS, MANIFESTS, TOKENS = "GET /v2/app/blobs/.*", "GET /v2/app/manifests/.*", "(GET|POST) /token.*"
TO_ANOTHER = "is_home = is_home and origin(target) == origin(url)"

# -- credentials -------------------------------------------------------------------------------------------------------


@frozen
class Scene:
    """A registry that wants credentials, which the user has; another host; and the user's settings."""

    home: Fake
    away: Fake
    settings: Settings

    def log_in(self, host: str = "", **entry: str) -> None:
        """Write docker's configuration, with a header of the user's own."""
        auths = {host or self.home.host: entry or {"auth": BASIC}}
        document = {"auths": auths, "HttpHeaders": {"X-Secret": "tell-nobody"}}
        self.settings.config.path.parent.mkdir(exist_ok=True)
        self.settings.config.path.write_text(json.dumps(document))

    def want_tokens(self, realm: str = "") -> None:
        """Let the registry want bearer tokens of ``realm``, its own token server unless given."""
        challenge = f'Bearer realm="{realm or self.home.url + "/token"}",service="the service"'

        def guard(handler) -> bool:
            if handler.headers.get("Authorization") == "Bearer token-of-bearer":
                return True
            handler.fail(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
            return False

        self.home.guard = guard
        self.home.always(TOKENS, lambda handler: handler.answer(200, b'{"token": "token-of-bearer"}'))

    def use(self, job: Callable, host: str = "", **changes: object) -> object:
        """Do something with the repository ``app``; what the registry is found out with is an error like others."""
        with Client(evolve(self.settings, **changes)) as client, suppress(RegistryError):
            return job(client.repository(Reference.parse(f"{host or self.home.host}/app:1")))
        return None

    def given_away(self) -> set[str]:
        """Return the secrets that the other host has seen."""
        return {secret for secret in SECRETS if secret in repr(self.away.seen)}


@pytest.fixture
def scene(fake, elsewhere, settings) -> Scene:
    made = Scene(fake, elsewhere, settings)
    made.log_in()
    return made


def read(repository) -> bytes:
    with repository.blob(BLOB) as reader:
        return reader.read()


def redirect(scene: Scene, status: int = 307) -> None:
    """Give a blob at another host, as registries with a content network do."""
    scene.want_tokens()
    guard = scene.home.guard
    there = f"{scene.away.url}/there?signature=abc"
    scene.home.always(BLOBS, lambda handler: guard(handler) and handler.answer(status, Location=there))
    scene.away.always("GET /there.*", lambda handler: handler.answer(200, DATA))
    assert scene.use(read) == DATA
    (asked,) = [seen for seen in scene.home.requests(BLOBS) if "Authorization" in seen.headers]
    assert (asked.headers["Authorization"], asked.headers["X-Secret"]) == ("Bearer token-of-bearer", "tell-nobody")


def way_back(scene: Scene) -> None:
    """Give it at another host, which sends the client to where it wants: back, and there to a place of its own."""
    scene.want_tokens()
    guard = scene.home.guard
    scene.home.always(BLOBS, lambda handler: guard(handler) and handler.answer(307, Location=f"{scene.away.url}/a"))
    scene.away.always("GET /a", lambda handler: handler.answer(307, Location=f"{scene.home.url}/mine"))
    # What a registry's users may read of each other's: here everybody's requests.
    scene.home.always("GET /mine", lambda handler: scene.away.seen.append(scene.home.seen[-1]) or handler.answer(404))
    assert scene.use(read) is None
    assert scene.home.requests("GET /mine")


def wants_more(scene: Scene) -> None:
    """Send the client to another host, which wants a token, too, and names a token server."""
    scene.home.always(MANIFESTS, lambda handler: handler.answer(307, Location=f"{scene.away.url}/there"))
    challenge = f'Bearer realm="{scene.away.url}/token"'
    scene.away.always(".*", lambda handler: handler.fail(401, WWW_Authenticate=challenge))
    scene.use(lambda repository: repository.manifest())
    assert scene.away.seen


def token_server_moved(scene: Scene) -> None:
    """Redirect the question for a token, which has the password in its headers."""
    scene.want_tokens()
    moved = (TOKENS, lambda handler: handler.answer(302, Location=f"{scene.away.url}/steal"), True)
    scene.home.script.insert(0, moved)
    scene.use(lambda repository: repository.manifest())
    assert [seen.body for seen in scene.away.seen] == [b""]


def token_server_moved_for_good(scene: Scene) -> None:
    """Redirect a question that has the secret in its body: 307 and 308 ask for the same body again."""
    scene.log_in(auth=base64.b64encode(b"anna:").decode(), identitytoken="refresh-me")
    scene.want_tokens()
    moved = (TOKENS, lambda handler: handler.answer(308, Location=f"{scene.away.url}/steal"), True)
    scene.home.script.insert(0, moved)
    scene.use(lambda repository: repository.manifest())
    assert scene.home.requests(TOKENS)


def upload_elsewhere(scene: Scene) -> None:
    """Have a blob sent to another host."""
    scene.want_tokens()
    guard, there = scene.home.guard, f"{scene.away.url}/up"
    scene.home.always("POST /v2/.*", lambda handler: guard(handler) and handler.answer(202, Location=there))
    scene.away.always("PUT /up.*", lambda handler: handler.answer(201))
    assert scene.use(lambda repository: repository.push_blob(BLOB, DATA)) == "uploaded"
    assert [seen.body for seen in scene.away.seen] == [DATA]


ATTACKS = {
    "a redirect": (redirect, Transport._followed, TO_ANOTHER, "is_home = True"),
    "a redirect there and back": (
        way_back,
        Transport._followed,
        TO_ANOTHER,
        "is_home = origin(target) == origin(question.site.base)",
    ),
    "another host that wants a token": (wants_more, Transport._authorised, " or not answer.is_home", ""),
    "a token server that moved": (token_server_moved, Transport._followed, TO_ANOTHER, "is_home = True"),
    "a token server that moved for good": (
        token_server_moved_for_good,
        Transport._followed,
        "not _is_same_request(answer, location)",
        "False",
    ),
    "an upload at another host": (
        upload_elsewhere,
        Transport._followed,
        "is_home = question.url, origin(question.url) == origin(question.site.base)",
        "is_home = question.url, True",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_credentials_stay_with_their_registry(scene, attack):
    ATTACKS[attack][0](scene)
    assert scene.given_away() == set()


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_of_these_bites(scene, attack):
    act, function, *change = ATTACKS[attack]
    with unwritten(function, tuple(change)):
        act(scene)
    assert scene.given_away() != set()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_takes_credentials(scene, status):
    redirect(scene, status)
    assert {"Authorization", "X-Secret", "Cookie"} & set(scene.away.seen[0].headers) == set()


def test_an_upload_is_sent_where_it_was_begun(scene):
    """Not where the registry sends it on to, which would get it whole before anybody asked who that is."""
    scene.home.always("PUT .*", lambda handler: handler.answer(307, Location=f"{scene.away.url}/there"))
    scene.use(lambda repository: repository.push_blob(BLOB, DATA))
    assert (len(scene.home.requests("PUT .*")), scene.away.seen) == (1, [])
    with unwritten(Transport._followed, ("not _is_same_request(answer, location)", "False")):
        scene.use(lambda repository: repository.push_blob(BLOB, DATA))
    assert DATA in {seen.body for seen in scene.away.seen}


# -- who gives out tokens ----------------------------------------------------------------------------------------------


@pytest.fixture
def secure(certificate: Path) -> Iterator[Fake]:
    with running(Fake(certificate)) as made:
        yield made


def plain_realm(scene: Scene, secure: Fake, certificate: Path) -> None:
    """Let a registry with TLS name a token server without."""
    tls = Scene(secure, scene.away, scene.settings)
    tls.log_in()
    tls.want_tokens(f"{scene.away.url}/token")
    trusting = {secure.host: HostSettings(ca=certificate.parent / "cert.pem")}
    tls.use(lambda repository: repository.manifest(), hosts=trusting)


def near_realm(scene: Scene, _secure: Fake, _certificate: Path) -> None:
    """Let a registry on the network name a token server that only this machine can reach."""
    scene.log_in("registry.example")
    scene.want_tokens(f"{scene.away.url}/token")
    through = {"registry.example": HostSettings(insecure=True, proxy=scene.home.url)}
    scene.use(lambda repository: repository.manifest(), "registry.example", hosts=through)


def realm_with_a_name(scene: Scene, _secure: Fake, _certificate: Path) -> None:
    """Let the realm's address look like another one."""
    scene.want_tokens(scene.away.url.replace("://", f"://{scene.home.host.replace(':', '%3A')}@") + "/token")
    scene.use(lambda repository: repository.manifest())


REALMS = (plain_realm, near_realm, realm_with_a_name)


@pytest.mark.parametrize("realm", REALMS, ids=lambda realm: realm.__name__)
def test_a_realm_is_looked_at_before_it_gets_a_password(scene, secure, certificate, realm):
    realm(scene, secure, certificate)
    assert [*scene.home.seen, *secure.seen]
    assert scene.away.seen == []


@pytest.mark.parametrize("realm", REALMS, ids=lambda realm: realm.__name__)
def test_each_realm_bites(scene, secure, certificate, realm):
    checked = 'realm = followed(f"{site.base}/", said["realm"], self._settings.may_be_plain)'
    with unwritten(Tokens._learn, (checked, 'realm = said["realm"]')):
        realm(scene, secure, certificate)
    assert BASIC in scene.given_away()


# -- the store ---------------------------------------------------------------------------------------------------------

GOOD = layer_tar({"file": b"honest." * 1000})
EVIL = layer_tar({"file": b"canary." * 1000})  # as long
assert len(GOOD) == len(EVIL)


def described(data: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def manifest_of(fake: Fake, layer: dict[str, object], content: bytes, **fields: object) -> dict[str, object]:
    """Give the registry a configuration over a layer with some content; return a manifest that names both."""
    said = config([content])
    fake.add(said)
    made = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described(said, CONFIG), "layers": [layer]}
    return {**made, **fields}


def offer(fake: Fake, manifest: dict[str, object], kind: str = MANIFEST) -> str:
    """Let the tag ``app:1`` be this; return how it is pulled."""
    fake.add_manifest("1", dump(manifest), kind)
    return f"{fake.host}/app:1"


def another_digest(fake: Fake) -> str:
    fake.blobs[digest_of(GOOD)] = EVIL
    return offer(fake, manifest_of(fake, described(GOOD, LAYER), EVIL))


def larger_than_it_is(fake: Fake) -> str:
    fake.add(EVIL)
    return offer(fake, manifest_of(fake, {**described(EVIL, LAYER), "size": len(EVIL) + 1}, EVIL))


def smaller_than_it_is(fake: Fake) -> str:
    fake.add(EVIL)
    return offer(fake, manifest_of(fake, {**described(EVIL, LAYER), "size": len(EVIL) - 1}, EVIL))


def truncated(fake: Fake) -> str:
    """End a body whose length was not said; what came unpacks, for a tar ends in zeros without number."""
    part = EVIL[:-512]

    def act(handler) -> None:
        handler.answer(200, part, Content_Length=None, Connection="close")
        handler.close_connection = True

    fake.always(f".*{digest_of(EVIL)}", act)
    return offer(fake, manifest_of(fake, described(EVIL, LAYER), part))


def another_content(fake: Fake) -> str:
    """Name an archive that is what it says, but not what the configuration says; that one may be known by now."""
    fake.add(EVIL)
    return offer(fake, manifest_of(fake, described(EVIL, LAYER), layer_tar({"known": b""})))


def another_configuration(fake: Fake) -> str:
    fake.add(GOOD)
    manifest = manifest_of(fake, described(GOOD, LAYER), GOOD)
    digest = manifest["config"]["digest"]
    fake.blobs[digest] = fake.blobs[digest].replace(b"/run", b"/bad")
    return offer(fake, manifest)


def another_manifest(fake: Fake) -> str:
    """Answer to a digest with what does not have it."""
    fake.add(EVIL)
    asked = digest_of(b"what was asked for")
    offer(fake, manifest_of(fake, described(EVIL, LAYER), EVIL))
    fake.manifests[asked] = fake.manifests["1"]
    fake.always(f".*/manifests/{asked}", lambda handler: handler.answer(
        200, fake.manifests[asked][1], Content_Type=MANIFEST))  # fmt: skip
    return f"{fake.host}/app@{asked}"


def another_digest_in_its_headers(fake: Fake) -> str:
    fake.add(EVIL)
    ref = offer(fake, manifest_of(fake, described(EVIL, LAYER), EVIL))
    data, said = fake.manifests["1"][1], digest_of(GOOD)
    fake.always(".*/manifests/1", lambda handler: handler.answer(
        200, data, Content_Type=MANIFEST, Docker_Content_Digest=said))  # fmt: skip
    return ref


def manifest_of_another_size(fake: Fake) -> str:
    fake.add(EVIL)
    data = dump(manifest_of(fake, described(EVIL, LAYER), EVIL))
    fake.add_manifest(digest_of(data), data)
    entry = {**described(data, MANIFEST), "size": len(data) + 1}
    return offer(fake, {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, INDEX)


def calls_itself_an_index(fake: Fake) -> str:
    fake.add(EVIL)
    return offer(fake, manifest_of(fake, described(EVIL, LAYER), EVIL, mediaType=INDEX))


def is_two_things(fake: Fake) -> str:
    """Be an image to one reader and a list of others to the next (CVE-2021-41190)."""
    fake.add(EVIL)
    return offer(fake, manifest_of(fake, described(EVIL, LAYER), EVIL, manifests=[]))


def is_no_image(fake: Fake) -> str:
    """Give something else that registries hold, of which a part is laid out like a configuration."""
    fake.add(EVIL)
    manifest = manifest_of(fake, described(EVIL, LAYER), EVIL)
    manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    return offer(fake, manifest)


# What looks at an archive: the client while it comes, and the store's door after it.
CLIENT = (
    (
        Download.chunks,
        ("for data in self._raw():", "for data in self._open(0, size, self._stop).answer.chunks():"),
        ("hasher.check(self._what)", "pass"),
    ),
    (Download._given, ("if said not in (None, size):", "if False:")),
)
DOOR = (
    (
        incoming._compare,
        ("if size != descriptor.size:", "if False:"),
        ('if f"sha256:{digits}" != descriptor.digest:', "if False:"),
    ),
    (incoming._Received.readinto, ("if self._size > self._descriptor.size:", "if False:")),
)
CHECKED = "for digest in (wanted, said):"
# Each lie, and the walls that stop it: any of them does.
LIES = {
    another_digest: (CLIENT, DOOR),
    larger_than_it_is: (CLIENT, DOOR),
    smaller_than_it_is: (CLIENT, DOOR),
    truncated: (CLIENT, DOOR),
    another_configuration: (CLIENT, DOOR),
    another_content: (((Incoming._unpack, ("if content.digest != diff_id:", "if False:")),),),
    another_manifest: (((Repository._checked, (CHECKED, "for digest in ():")),),),
    another_digest_in_its_headers: (((Repository._checked, (CHECKED, "for digest in (wanted,):")),),),
    manifest_of_another_size: (((Repository.manifest, ("found.descriptor.size != name.size", "False")),),),
    calls_itself_an_index: (((documents.read, ('if inside not in ("", kind):', "if False:")),),),
    is_two_things: (((documents._document, (' and "manifests" not in values', "")),),),
    is_no_image: (((_Pull.image, ("if not manifest.is_image:", "if False:")),),),
}


def contents(root: Path) -> dict[str, tuple[int, str]]:
    """Return what lies below a directory, the database aside: modes, and digests of contents."""
    found = {}
    for path in sorted(root.rglob("*")):
        if not path.name.startswith("pylxc.db"):
            data = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
            found[str(path)] = (path.lstat().st_mode, hashlib.sha256(data).hexdigest())
    return found


def state(engine: pylxc.Engine) -> tuple[object, ...]:
    """Return the store, byte for byte: every file, and every row of the database, which writes itself as it likes."""
    files = contents(engine.root) if rootless.is_privileged() else rootless.as_owner(lambda: contents(engine.root))
    with closing(sqlite3.connect(engine.root / "pylxc.db")) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}  # noqa: S608
    return files, rows


@pytest.fixture
def pulling(engine, fake, settings) -> Callable[[str], pylxc.Image]:
    """Return a function that pulls into a store which has an image already."""

    def take(ref: str) -> pylxc.Image:
        return pull(engine, ref, settings=settings)

    known = layer_tar({"known": b""})
    fake.add(known)
    take(offer(fake, manifest_of(fake, described(known, LAYER), known)).replace("/app:", "/known:"))
    fake.manifests.clear()
    return take


def without(walls: Iterable[Iterable[tuple]]) -> ExitStack:
    """Return a block in which these walls were never built."""
    stack = ExitStack()
    for wall in walls:
        for function, *changes in wall:
            stack.enter_context(unwritten(function, *changes))
    return stack


def refused(engine: pylxc.Engine, pulling: Callable[[str], pylxc.Image], ref: str) -> None:
    before = state(engine)
    with pytest.raises((IntegrityError, RegistryError, UnsupportedError)):
        pulling(ref)
    assert state(engine) == before


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_lie_is_never_stored(engine, fake, pulling, lie):
    refused(engine, pulling, lie(fake))


SEVERAL = [(lie, number) for lie, walls in LIES.items() for number in range(len(walls)) if len(walls) > 1]


@pytest.mark.parametrize(("lie", "number"), SEVERAL, ids=[f"{lie.__name__} {number}" for lie, number in SEVERAL])
def test_each_wall_stands_alone(engine, fake, pulling, lie, number):
    others = [wall for each, wall in enumerate(LIES[lie]) if each != number]
    with without(others):
        refused(engine, pulling, lie(fake))


@pytest.mark.root  # an ordinary user's pull reads the spool, which a client without its wall does not fill
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_each_lie_bites(engine, fake, pulling, lie):
    """Without its walls it is in the store, and bears the name that was asked for."""
    before = state(engine)
    with without(LIES[lie]):
        image = pulling(lie(fake))
    assert state(engine) != before
    assert image.layers
