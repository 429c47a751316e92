"""From a table, arrays or images anywhere to examples: read, checked, split, encoded."""
