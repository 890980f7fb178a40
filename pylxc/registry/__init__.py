"""The client of registries: manifests and blobs in and out, over the OCI distribution protocol.

Knows nothing of the store: what comes in is given to the caller as verified bytes, what goes out is read from what the
caller gives. ``client`` is the door; ``settings`` and ``dockerconfig`` are what the user has said, ``connections`` is
the only user of urllib3, ``transport`` and ``tokens`` make one request succeed, ``download``, ``ranges``,
``upload`` and ``listings`` are what is asked for. Invariant: what a registry sends is believed only once its digest is
checked; credentials go to the registry that they are for, and nowhere else.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations
