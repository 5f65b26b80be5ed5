"""Clips found by sound or picture: an index of vectors, built, kept up to date, searched."""
