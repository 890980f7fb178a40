"""Makes names for containers that were given none: an adjective and an animal.

Invariant: every name is fit to be a container's name and a hostname.
"""

from __future__ import annotations

import os

ADJECTIVES = (
    *("amber", "bold", "brave", "bright", "calm", "clever", "cosy", "crisp", "dapper", "eager", "fair", "fleet"),
    *("fond", "frank", "gentle", "glad", "golden", "grand", "happy", "hardy", "honest", "jolly", "keen", "kind"),
    *("lively", "lucid", "lucky", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "plucky"),
    *("polite", "proud", "quick", "quiet", "rapid", "ready", "royal", "sharp", "shy", "silent", "smart", "solid"),
    *("stable", "steady", "sunny", "swift", "tidy", "tough", "vivid", "warm", "wise", "witty", "young", "zesty"),
)
ANIMALS = (
    *("adder", "badger", "beaver", "bison", "bittern", "carp", "civet", "cod", "crane", "cricket", "curlew"),
    *("dingo", "dormouse", "dove", "eagle", "eel", "egret", "falcon", "ferret", "finch", "fox", "gannet", "gecko"),
    *("goose", "grouse", "hare", "heron", "hornet", "ibex", "ibis", "jackal", "jay", "kestrel", "kiwi", "lark"),
    *("lemur", "linnet", "lizard", "lynx", "marten", "merlin", "mole", "moth", "newt", "ocelot", "osprey", "otter"),
    *("owl", "panda", "perch", "pika", "plover", "quail", "raven", "robin", "salmon", "seal", "shrew", "skua"),
    *("snipe", "sparrow", "stoat", "stork", "swan", "tapir", "tern", "thrush", "toad", "trout", "viper", "vole"),
    *("walrus", "weasel", "wombat", "wren", "yak"),
)


def generate() -> str:
    """Return a name such as ``"quiet-otter-4f1c"``: 16 bits of chance make a clash within one store unlikely."""
    chance, adjective = divmod(int.from_bytes(os.urandom(8), "big"), len(ADJECTIVES))  # `random` takes 3 ms to import
    chance, animal = divmod(chance, len(ANIMALS))
    return f"{ADJECTIVES[adjective]}-{ANIMALS[animal]}-{chance & 0xFFFF:04x}"
