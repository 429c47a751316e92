"""The update rules of `torch.optim` for many networks at once, anybody's optimizers, schedules."""
