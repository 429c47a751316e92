"""The compiled program that trains stacks of small networks on the CPU."""

from pipeline.training.native.calls import Kernel, can_train

__all__ = ["Kernel", "can_train"]
