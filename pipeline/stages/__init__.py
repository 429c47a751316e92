"""The stages, together and each alone."""
