"""From a list of raw videos to evaluated audio-visual checkpoints."""

from pipeline_src.system import renamed

renamed.install()
