"""Training jobs through submitit: submit, wait with progress, re-attach. Nothing else knows it."""
