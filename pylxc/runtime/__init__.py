"""The only user of the C extension: plans, processes, root file systems.

``native`` wraps the extension's functions, ``plan`` writes the helper's instructions, ``process`` talks to a process
while it runs, ``rootfs`` and ``isolation`` say what a container's inside consists of, ``logs`` and ``record`` read what
the monitor wrote.
"""
