"""Comparisons: arms × hooks × sparsities × seeds, trained matched.

`arms` and `manifest`, which are all that readers of a comparison need, import no training code.
"""
