"""The toy experiments: SAEs and weighted SAEs against a known truth, with every control."""

from wsae_plugin.toy.experiments.alpha import ALPHA
from wsae_plugin.toy.experiments.experiment import Experiment, run_experiment
from wsae_plugin.toy.experiments.fig2 import FIG2
from wsae_plugin.toy.experiments.fig3 import FIG3
from wsae_plugin.toy.experiments.proxies import PROXIES_EXPERIMENT
from wsae_plugin.toy.experiments.settings import ToySettings

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for experiment in (FIG2, FIG3, PROXIES_EXPERIMENT, ALPHA)
}

__all__ = ["EXPERIMENTS", "Experiment", "ToySettings", "run_experiment"]
