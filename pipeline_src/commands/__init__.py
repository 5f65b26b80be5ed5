"""The one command, ``cli.py``, and a file for each of its subcommands."""

from pathlib import Path

# Commands about the checkout, its configuration and its DVC files work here, wherever called from.
CHECKOUT = Path(__file__).resolve().parents[2]
