"""Where this checkout lies; of a copy that was frozen for a job, the copy."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIG_FILE = "config/config.yaml"  # in it
