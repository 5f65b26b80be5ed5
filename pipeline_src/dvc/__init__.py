"""The stages as DVC sees them: one table, the dvc.yaml made from it, and keeping both tools agreed.

DVC decides whether a stage runs, by the checksums of its dependencies and the values of its
settings; Snakemake decides how: chunks, cluster jobs, resuming.
"""
