"""What the command line does: all stages together, and each alone."""
