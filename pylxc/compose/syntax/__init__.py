"""Text into trees, whatever its keys mean.

``reading`` makes a ``tree`` of YAML, whose plain words ``scalars`` understands; ``interpolation`` fills in variables,
``dotenv`` reads files of them, ``words`` splits a command. Nothing here knows a key of the specification.
Invariant: each value keeps the line that says it; what a text comes to is bounded, and nothing recurses.
"""
