"""What networks have in common, whoever wrote their class."""

from pipeline.models.mlp import MLP
from pipeline.models.module import ModuleArchitecture

Architecture = MLP | ModuleArchitecture
"""A network without its weights: what K of them in a stack share. Both have

size: P, the number of one network's parameters;
shapes: those of its parameters, in their order in P;
products: multiplications of one row's forward pass;
activations: numbers that a row's forward pass makes, and `widest` of them in one layer;
program: equal for architectures whose ensembles are one exported graph;
initial: (count, seed) -> weights to start from [count, P + Q] float64: parameters, then running
    statistics."""
