from wsae_plugin.yaml_file import *  # noqa: F403
