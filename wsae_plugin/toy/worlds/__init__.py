"""Sources of activations whose features are known, built on `sae_lens.synthetic`."""

from wsae_plugin.toy.worlds.axes import Block, axis_privileged, mixed_axes
from wsae_plugin.toy.worlds.dictionary import dictionary_of_frequencies, random_dictionary
from wsae_plugin.toy.worlds.hierarchy import parents_and_children
from wsae_plugin.toy.worlds.superposed import superposed
from wsae_plugin.toy.worlds.world import World

__all__ = [
    "Block",
    "World",
    "axis_privileged",
    "dictionary_of_frequencies",
    "mixed_axes",
    "parents_and_children",
    "random_dictionary",
    "superposed",
]
