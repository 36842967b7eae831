"""Makes the bundled language model, `wsae_plugin/assets/model`; not a part of the package."""
