"""Images come in and go out: byte for byte, with the digests they have elsewhere.

``documents`` reads manifests and indexes, ``platforms`` chooses among them. ``incoming`` is how an image gets into the
store and ``outgoing`` how it gets out of it, wherever it comes from or goes to; archives are one such place:
``tarstream`` and ``sources`` read them, ``catalog`` finds the images in them, ``load`` and ``save`` put it together.
``plain`` gives a layer's own tar.

Invariant: what comes in is verified, by size and digest, before anything of it has a name in the store.
"""
