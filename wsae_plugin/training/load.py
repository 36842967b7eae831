from wsae_plugin.training.config import load_run_config as load_run_config
