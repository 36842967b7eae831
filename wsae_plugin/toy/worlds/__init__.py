"""Sources of activations whose features are known, built on `sae_lens.synthetic`."""

from wsae_plugin.toy.worlds.axes import Block, block_directions, mixed_axes
from wsae_plugin.toy.worlds.dictionary import exactly_sparse, random_directions
from wsae_plugin.toy.worlds.hierarchy import parents_and_children
from wsae_plugin.toy.worlds.world import World, make_world

__all__ = [
    "Block",
    "World",
    "block_directions",
    "exactly_sparse",
    "make_world",
    "mixed_axes",
    "parents_and_children",
    "random_directions",
]
