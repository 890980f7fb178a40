"""What a build tells while it goes on. Invariant: an event is a value; nothing in it changes later."""

from __future__ import annotations

from pylxc.values import frozen


@frozen(kw_only=True)
class BuildEvent:
    """One thing that happened.

    ``kind``: "step" (a step begins), "cached" (its result was there already), "output" (``data`` is a piece of what a
    RUN wrote), "done" (a step ended, after ``duration`` seconds), "warning" (``instruction`` is a sentence for the
    user).
    ``step`` counts from 1 in its stage, of ``total`` there; ``stage`` is the name after AS, or "stage-2" for the third
    one, "" where a Dockerfile has one without a name. Stages may be built side by side, but events come one at a time.
    ``instruction`` is the step's text; ``stream`` is "stdout" or "stderr".
    """

    kind: str
    step: int
    total: int
    instruction: str
    data: bytes = b""
    stream: str = ""
    duration: float = 0.0
    stage: str = ""
