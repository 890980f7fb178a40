"""Applications of several containers: Compose and Fig files, and what is made, kept up and told of what they say.

``syntax`` turns text into trees, ``files`` turns trees into the one ``model`` of an application. From there on only the
model counts: ``parts`` makes a container, a network, a volume or an image of it, ``running`` brings all of them up and
down, ``export`` shows the model elsewhere. :class:`pylxc.Environment` is the door.
Invariant: ``files`` starts nothing and does not look at the store; ``parts`` and ``running`` know the model alone, not
the files that it came from.
"""
