"""Shows a tree to this process, and to those that it starts, as a directory.

Hides the helper that has it mounted (csrc/helper/show.c). Invariant: the mounts are in the helper's namespace alone,
and the helper ends with this process, so that none of them can be left behind.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pylxc.runtime import plan as p
from pylxc.runtime import process, transfer
from pylxc.runtime.isolation import view_plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pylxc.runtime.isolation import Tree


@contextmanager
def view(tree: Tree, name: str) -> Iterator[str]:
    """Give a path of a tree without an upper side, read-only, while the block lasts.

    ``name``: its last component; no directory of the host is called so. Raises SpawnError.
    """
    ours, theirs = socket.socketpair()
    owner = os.getpid()
    with ours:
        with theirs:
            plan = view_plan(tree)
            plan.add(p.SHOW, name, a=plan.descriptor(theirs.fileno()), subject="the view")
            child = transfer.begun(plan)
        try:
            yield f"/proc/{child.pid}/cwd/{name}"
        finally:
            if os.getpid() == owner:  # else it is the view of who forked this process
                process.finish(child)  # there is nothing that it would have to end
