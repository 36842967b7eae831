"""The toy studies: SAEs and weighted SAEs against a known truth, with every control.

A study is a declaration: its arms, the cells of its grid, what trains and measures a part of it,
and what its verdict reads from the scores. `run_study` is the same for all of them.
"""

from wsae_plugin.toy.study.alpha import ALPHA
from wsae_plugin.toy.study.fig2 import FIG2
from wsae_plugin.toy.study.fig3 import FIG3
from wsae_plugin.toy.study.gba import GBA
from wsae_plugin.toy.study.proxies import PROXIES_STUDY
from wsae_plugin.toy.study.settings import GBASettings, ToySettings
from wsae_plugin.toy.study.study import Study, run_study

STUDIES: dict[str, Study] = {study.name: study for study in (FIG2, FIG3, PROXIES_STUDY, ALPHA, GBA)}

__all__ = ["STUDIES", "GBASettings", "Study", "ToySettings", "run_study"]
