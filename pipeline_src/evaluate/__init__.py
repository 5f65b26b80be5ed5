"""Scores of checkpoints: classification, retrieval, probes, each with its interval."""
