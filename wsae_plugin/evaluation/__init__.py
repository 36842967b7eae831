"""Trained SAEs on held-out text: measures, and the scores that comparisons are made of."""
