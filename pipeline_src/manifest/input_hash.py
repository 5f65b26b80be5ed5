"""What a chunk's manifest was made from, as one hash that travels with the file.

Snakemake's own records stay in one checkout. After ``dvc checkout`` or ``dvc pull`` they say
nothing, or speak of other files, so the manifest itself tells whether it is current.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pipeline_src.config.section import Section
from pipeline_src.system.atomic import file_sha256, json_sha256


def hash_inputs(inputs: Sequence[Path | bytes], version: int, **settings: Section | int) -> str:
    """Hash the input files, or what of them counts, the step's version and its settings."""
    values = {
        name: value.recipe_values() if isinstance(value, Section) else value
        for name, value in settings.items()
    }
    hashes = [
        hashlib.sha256(one).hexdigest() if isinstance(one, bytes) else file_sha256(one)
        for one in inputs
    ]
    return json_sha256({"inputs": hashes, "version": version, "settings": values})
