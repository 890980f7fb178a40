"""Environments brought up, kept up and taken down: many ``parts`` in their order.

``converge`` brings up what is not there or not as it should be, with ``undo`` for when that fails, ``lifecycle`` stops
and removes, ``oneoff`` prepares a command in a container of its own; ``order`` is who goes before whom, ``conditions``
what a service waits for. ``following`` shows what containers write and what happens to them; ``syncing`` watches the
sources.
Invariant: what is there is asked of the store with each call, and may be another process's.
"""
