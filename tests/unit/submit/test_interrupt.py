"""Ctrl-C at any moment, in a process of its own."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PRINTS_SLOWLY = """
import logging, time
from pipeline_src.submit.interrupt import pass_on_interrupts

class Handler(logging.Handler):
    def emit(self, record):
        try:
            print("printing", flush=True)
            time.sleep(1)
        except KeyboardInterrupt:
            print("dropped", flush=True)

pass_on_interrupts()
logging.getLogger().addHandler(Handler())
logging.warning("a line")
time.sleep(30)
"""


def test_an_interrupt_while_a_line_is_printed_is_not_lost():
    """Snakemake's handler of messages drops what is raised in it; the workflow went on."""
    command = [sys.executable, "-c", PRINTS_SLOWLY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"printing\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert out == b""
    assert error.rstrip().endswith(b"KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
