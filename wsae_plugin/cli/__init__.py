"""The command `wsae`: one file a command, no logic of its own."""

from wsae_plugin.cli.main import main

__all__ = ["main"]
