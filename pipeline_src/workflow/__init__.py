"""What Snakemake is given before its rules and when it starts, and what it shows a person."""
