"""Imports go one way, the C extension has one user, and ``import pylxc`` stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pylxc

PACKAGE = Path(pylxc.__file__).parent

# From the ground up. A module may import those of its own layer and of the layers before it; one that has no place here
# fails the test, so that whoever adds a module says where it belongs. A package stands for all that is in it, but
# for what has a line of its own.
LAYERS = (
    "errors",
    # values
    (
        "capabilities digests documents health identity imageconfig mounts names normalise options platforms reference "
        "result scoped seccomp sourcedate spec status stats streams subnets units untrusted"
    ),
    # the kernel
    "runtime linux",
    # the net: knows nothing of the disk
    "registry",
    # the disk
    "store",
    # the object model
    (
        "attachment bootstrap changes container containerlife containernetworks containerwork defaults diagnosis "
        "engine eventstream execution files filters hostimage image inside launching layer layerview network "
        "networking obtaining process publishing readiness systeminit verbs volume volumeuse"
    ),
    "build",
    "exchange",
    "care",
    # applications: files into a model, what is made of the model, and what shows it
    "compose compose.model",
    "compose.syntax",
    "compose.files",
    "compose.parts",
    "compose.running",
    "compose.export",
    # environments, and the forms of all objects on an event loop
    "aio environment",
    # the public face, and the command line on top of it
    "pylxc",
    "cli __main__",
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}

# Against the direction, each inside a function: the methods of Image and Layer are the doors to what makes images.
DOORS = {
    ("container", "build.commit"),
    ("engine", "care.check"),
    ("engine", "care.prune"),
    ("engine", "care.repair"),
    ("engine", "care.usage"),
    ("image", "build.build"),
    ("image", "build.imports"),
    ("image", "build.request"),
    ("image", "care.inspection"),
    ("image", "exchange.load"),
    ("image", "exchange.pull"),
    ("image", "exchange.push"),
    ("image", "exchange.save"),
    ("layer", "exchange.plain"),
    ("obtaining", "exchange.pull"),
}

# Side by side: what is of different lines knows nothing of each other, in either direction.
STRANGERS = ("compose.syntax compose.files", "compose.parts compose.running")

# What only one layer may use, and who that is.
RESERVED = {
    "pylxc._native": ("runtime", "linux"),
    "sqlite3": ("store",),
    "asyncio": ("aio",),
    "click": ("cli",),
    "graphviz": ("compose.export",),
    "isal": ("build", "exchange"),
    "zstandard": ("build",),
    "rich": ("cli",),
    "urllib3": ("registry",),
    "yaml": ("compose.export", "compose.syntax"),
}


def modules() -> dict[str, Path]:
    """Return the modules by their name below ``pylxc`` ("" is the package itself)."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


class Imports(ast.NodeVisitor):
    """Collects the modules that a module imports when the program runs: not those that are for type checkers only."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.orelse:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute here"
        assert node.module is not None
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            is_module = whole.removeprefix("pylxc.") in MODULES or whole in RESERVED
            self.found.add(whole if is_module else node.module)


def imports_of(path: Path) -> set[str]:
    visitor = Imports()
    visitor.visit(ast.parse(path.read_text()))
    return visitor.found


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def layer_name(module: str) -> str:
    """Return the line of LAYERS that a module belongs to: the one that says most of its name."""
    while module and module not in RANKS:
        module, _, last = module.rpartition(".")
        if not module:
            return last
    return module or "pylxc"


def inside(module: str) -> set[str]:
    """Return what a module imports of pylxc, as names below ``pylxc``."""
    found = {name for name in IMPORTS[module] if name == "pylxc" or name.startswith("pylxc.")} - set(RESERVED)
    return {name.removeprefix("pylxc").removeprefix(".") for name in found}


def test_every_module_has_a_layer_and_every_line_a_module() -> None:
    assert {layer_name(name) for name in MODULES} == set(RANKS)


def test_imports_go_one_way() -> None:
    against = {
        (module, target)
        for module in MODULES
        for target in inside(module)
        if RANKS[layer_name(target)] > RANKS[layer_name(module)]
    }
    assert against == DOORS


def test_strangers_know_nothing_of_each_other() -> None:
    side = {name: number for number, names in enumerate(STRANGERS) for name in names.split()}
    assert set(side) <= set(RANKS)
    met = {
        (module, target)
        for module in MODULES
        for target in inside(module)
        if side.get(layer_name(module), -1) != side.get(layer_name(target), -1)
        and {layer_name(module), layer_name(target)} <= set(side)
    }
    assert met == set()


def test_imports_of_one_layer_make_no_ring() -> None:
    """At the top of modules, that is: within functions the object model may name itself."""
    ahead = {name: {target for target in top_level(name) if target in MODULES} for name in MODULES}
    while ahead:
        ready = {name for name, targets in ahead.items() if not targets & set(ahead)}
        assert ready, f"these import each other: {sorted(ahead)}"
        ahead = {name: targets for name, targets in ahead.items() if name not in ready}


def top_level(module: str) -> set[str]:
    tree = ast.parse(MODULES[module].read_text())
    visitor = Imports()
    for statement in tree.body:
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            visitor.visit(statement)
    return {name.removeprefix("pylxc").removeprefix(".") for name in visitor.found if name.startswith("pylxc")}


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_module_has_one_user(name: str) -> None:
    users = {layer_name(module) for module, found in IMPORTS.items() if {one for one in found if _is(one, name)}}
    assert users <= set(RESERVED[name])
    assert users, "nobody uses it: its line here is out of date"


def _is(module: str, reserved: str) -> bool:
    return module == reserved or module.startswith(f"{reserved}.")


def loaded_by(statement: str, *arguments: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after a statement, and had not before."""
    told = "print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    program = f"import sys; sys.path[:] = {sys.path!r}; before = set(sys.modules); {statement}; {told}"
    done = subprocess.run(
        # Without the modules that an installation to be edited loads with every interpreter.
        [sys.executable, "-S", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_importing_pylxc_loads_nothing_heavy() -> None:
    heavy = {"sqlite3", "_sqlite3", "_cffi_backend", "cffi", "attr", "attrs", "click", "rich", "json", "subprocess"}
    heavy |= {"asyncio", "urllib3"}
    loaded = loaded_by("import pylxc")
    assert "pylxc" in loaded
    assert loaded & heavy == set()
    assert {name for name in loaded if name.startswith("pylxc.")} == set()


def test_the_errors_and_the_command_line_load_on_their_own() -> None:
    assert {name for name in loaded_by("import pylxc.errors") if name.startswith("pylxc.")} == {"pylxc.errors"}
    assert {"click", "pylxc.engine"} & loaded_by("import pylxc.cli") == set()


# What takes long to load, or brings much else along, and is for few.
HEAVY = frozenset(
    (
        *("rich", "urllib3", "isal", "zstandard", "http.client", "email", "ssl", "asyncio", "logging"),
        *("socket", "subprocess", "tempfile", "shutil", "random", "concurrent.futures", "importlib.metadata", "pickle"),
    )
)
CONTAINERS = frozenset(("pylxc.container", "pylxc.launching", "pylxc.spec", "pylxc.runtime.isolation"))


def loaded_by_command(*words: str) -> set[str]:
    return loaded_by("from pylxc.cli import main; assert main(sys.argv[1:]) == 0", *words)


@pytest.fixture
def store(tmp_path: Path) -> tuple[str, ...]:
    return "--root", str(tmp_path / "store")


@pytest.mark.root
def test_a_build_that_is_cached_loads_nothing_heavy(tmp_path: Path, store: tuple[str, ...]) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nENV a=b\nCOPY Dockerfile /\nWORKDIR /there\n")
    first = loaded_by_command(*store, "build", str(tmp_path))
    assert "pylxc.runtime.isolation" in first  # which makes what is not there yet
    again = loaded_by_command(*store, "build", str(tmp_path))
    assert "pylxc.build.executor" in again
    assert again & (HEAVY | CONTAINERS) == set()


@pytest.mark.root
def test_lists_load_nothing_heavy(store: tuple[str, ...]) -> None:
    assert loaded_by_command(*store, "ps") & HEAVY == set()
    assert loaded_by_command(*store, "images") & (HEAVY | CONTAINERS) == set()
    assert loaded_by_command("version") & (HEAVY | CONTAINERS | {"sqlite3", "pylxc.engine"}) == set()


@pytest.mark.root
def test_a_run_loads_nothing_of_registries_and_progress_bars(store: tuple[str, ...]) -> None:
    assert loaded_by_command(*store, "run", "--rm", "host", "true") & {"rich", "urllib3"} == set()
