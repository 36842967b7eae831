"""Which training recovers the features of X = HV: Group Bias Adaptation beside its controls."""

from wsae_plugin.toy.recovery.arms import ARMS, RecoveryArm
from wsae_plugin.toy.recovery.markdown import page
from wsae_plugin.toy.recovery.settings import RecoverySettings
from wsae_plugin.toy.recovery.study import run_study

__all__ = ["ARMS", "RecoveryArm", "RecoverySettings", "page", "run_study"]
