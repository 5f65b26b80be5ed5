"""Packed clips: webdataset tars, their index, and random access to single samples."""
