"""One training by several processes: what they share, and how they end together."""
