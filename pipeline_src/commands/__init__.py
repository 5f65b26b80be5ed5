"""The one command, ``cli.py``, and a file for each of its subcommands."""
