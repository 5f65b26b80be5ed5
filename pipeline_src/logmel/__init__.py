"""Waveform -> log-mel filterbank."""
