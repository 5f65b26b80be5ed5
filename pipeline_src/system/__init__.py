"""What the machine gives every step: files, locks, processes, logs, connections."""
