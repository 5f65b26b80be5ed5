"""One training run on disk: its spec, its checkpoints, its done.json, and the model they hold."""
