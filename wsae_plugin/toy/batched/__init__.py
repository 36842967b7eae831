"""Many small SAEs at once: one batched product where a loop would train them one by one."""

from wsae_plugin.toy.batched.activation import NO_ACTIVATION, RELU, Activation, jump_relu, top_k
from wsae_plugin.toy.batched.data import FeatureStream, WorldStack
from wsae_plugin.toy.batched.measures import measure
from wsae_plugin.toy.batched.model import SAEs
from wsae_plugin.toy.batched.stack import SAEStack, initial_decoders
from wsae_plugin.toy.batched.trainer import InputMap, Training, train_stack

__all__ = [
    "NO_ACTIVATION",
    "RELU",
    "Activation",
    "FeatureStream",
    "InputMap",
    "SAEStack",
    "SAEs",
    "Training",
    "WorldStack",
    "initial_decoders",
    "jump_relu",
    "measure",
    "top_k",
    "train_stack",
]
