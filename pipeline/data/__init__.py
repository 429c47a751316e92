"""From a table anywhere to examples: read, checked, split, encoded."""
