"""What an environment consists of, each thing by itself: its options by the model, its making, and finding it again.

``services`` and ``wiring`` say with which options a container is made, from its own service and from others, ``making``
makes it; ``images``, ``resources`` (networks and volumes) and ``contents`` (secrets and configs) are what it needs.
``labels`` mark all of them, ``found`` finds them by that; ``refusals`` is the one list of what is not carried out.
Invariant: nothing here decides what is to be there, or when.
"""
