"""The steps of ``benchmarks/gpu.py``."""
