"""Shards to batches: exact epochs, deterministic order, resume at any step."""
