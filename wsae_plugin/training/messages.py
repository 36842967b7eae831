from wsae_plugin.messages import *  # noqa: F403
