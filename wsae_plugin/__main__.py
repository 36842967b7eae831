"""`python -m wsae_plugin` is `wsae`, as `torchrun -m wsae_plugin` needs it."""

from wsae_plugin.cli.main import main

main()
