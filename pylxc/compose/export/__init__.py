"""An application for others to read: manifests for Kubernetes, a picture, a file that says it all.

``kubernetes`` with ``pods``, ``graph``, ``printing``. Invariant: the model is read, never changed; nothing is started.
"""
