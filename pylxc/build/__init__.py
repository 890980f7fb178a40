"""From a Dockerfile to layers: the text (``dockerfile``, ``expand``), the files (``ignore``, ``context``), the plan.

Invariant: each module can be used without the later ones, and none of them runs a container.
"""
