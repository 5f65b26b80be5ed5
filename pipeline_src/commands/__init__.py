"""The commands of ``pipeline_src.cli``, one file each."""

from pathlib import Path

# Commands about the checkout, its configuration and its DVC files work here, wherever called from.
CHECKOUT = Path(__file__).resolve().parents[2]
