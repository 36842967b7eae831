"""Whether the language model and the data set give what a comparison asks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wsae_plugin.sources import activations_of
from wsae_plugin.sources.hooks import Hook, check_hooks, check_names_before_loading
from wsae_plugin.sources.opening import open_model
from wsae_plugin.training.matched.config import ComparisonConfig
from wsae_plugin.training.matched.plan import group_config, plan
from wsae_plugin.training.messages import naming


def check_sources(config: ComparisonConfig) -> None:
    """Refuse, before anything is written, what only the model and the data show.

    All hooks are looked at, also those of a pass that comes days later.

    Raises:
        BadInputError: The model, a hook, its width or the data set is not as asked.
    """
    hooks = [
        Hook(
            name, "hooks", head_index=None, d_in=config.values["sae"]["d_in"], d_in_field="sae.d_in"
        )
        for name in config.hooks
    ]
    run_config = group_config(config, plan(config)[0], Path())
    with naming(config.source):
        runner_config: Any = run_config.runner_config()
        check_names_before_loading(runner_config, hooks)
        check_hooks(runner_config, open_model(runner_config, config.hooks), hooks)
        activations_of(run_config.alone().runner_config())
