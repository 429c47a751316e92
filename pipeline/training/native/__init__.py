"""The compiled program that trains stacks of small networks on the CPU."""
