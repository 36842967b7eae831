"""Worlds with a known truth, the theory as checkable claims, metrics, experiments."""
