"""From a list of raw videos to evaluated audio-visual checkpoints."""
