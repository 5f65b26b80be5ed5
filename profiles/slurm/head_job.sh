#!/bin/bash
# Snakemake itself as a job, where login nodes end long processes; from the repository's root:
#   sbatch profiles/slurm/head_job.sh all
# At its time limit trainings continue; the same command joins them and submits the rest again.
#SBATCH --job-name=av-pipeline
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=7-00:00:00
#SBATCH --output=head_job_%j.log
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
export PATH="$PWD/.venv/bin:$PATH"
exec snakemake --profile slurm "$@"
