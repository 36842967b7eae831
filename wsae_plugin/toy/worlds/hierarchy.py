"""Parents and children: features that fire only where another does."""

from __future__ import annotations

import torch
from sae_lens.synthetic import FeatureDictionary, HierarchyNode, hierarchy_modifier

from wsae_plugin.toy.worlds.world import World, make_world


def parents_and_children(
    n_parents: int,
    children_per_parent: int,
    d_in: int,
    *,
    parent_probability: float = 0.1,
    child_probability: float = 0.3,
    mutually_exclusive: bool = False,
    seed: int = 0,
) -> World:
    """Let parents fire independently, a child only where its parent does (SAELens's hierarchy).

    Features 0 … n_parents − 1 are the parents; the children of parent p follow in a run.

    Args:
        n_parents: how many trees.
        children_per_parent: how many children each has.
        d_in: input dimensions; SAELens makes the directions as orthogonal as they fit.
        parent_probability: how often a parent fires.
        child_probability: how often a child fires where its parent does.
        mutually_exclusive: whether at most one child of a parent fires.
        seed: of the directions.
    """
    n_children = n_parents * children_per_parent
    children = torch.arange(n_parents, n_parents + n_children).view(n_parents, -1).tolist()
    nodes = [
        HierarchyNode(parent, [HierarchyNode(child) for child in mine], mutually_exclusive)
        for parent, mine in enumerate(children)
    ]
    sizes = torch.tensor([n_parents, n_children])
    rates = torch.tensor([parent_probability, child_probability]).repeat_interleave(sizes)
    directions = FeatureDictionary(n_parents + n_children, d_in, seed=seed).feature_vectors
    return make_world(directions, rates, [hierarchy_modifier(nodes)])
