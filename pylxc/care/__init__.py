"""The care of a store: what is wrong with it, mending it, what it takes up, and what may go.

``reports`` are the values that callers get; ``inspection`` looks at one layer or document, ``check`` at all of them,
``repair`` mends what a check found; ``usage`` measures, ``prune`` removes.
Invariant: a check changes nothing but what is known of damage; a repair, killed at any point, leaves what the next one
finishes; what is in use or leased is never taken away.
"""
