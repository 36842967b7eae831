"""Folders of images → tables of embeddings, which SAEs are trained on: `wsae embed`."""

from wsae_plugin.vision.embed import embed_folder

__all__ = ["embed_folder"]
