"""Comparisons: arms × hooks × sparsities × seeds, trained matched."""
