"""One file an eval: what it is asked, how it is run, what its numbers mean."""
