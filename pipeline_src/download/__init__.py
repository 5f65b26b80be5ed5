"""Getting the raw clips: local files, members of tar archives, http(s)."""
