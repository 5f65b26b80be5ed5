"""Data sets as their YAML and lists say: clips, classes, splits, chunks."""
