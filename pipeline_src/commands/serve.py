"""A page to search an index by sound or picture, for one's own browser.

    av-pipeline serve my_index
    av-pipeline serve results/avsiam_tiny

The second builds the index of a run first, of the data sets that it was evaluated on. Only this
machine reaches the page unless --host says otherwise; there is no password, so whoever reaches it
sees and plays every clip of the index. What is uploaded is looked at and removed. Ctrl-C ends it.
"""

import argparse
import ipaddress
import logging
import socket
from pathlib import Path

from aiohttp import web

from pipeline_src.errors import ConfigError
from pipeline_src.inference.search.open import open_indexed_model
from pipeline_src.inference.serve.app import make_app
from pipeline_src.inference.serve.places import find_index
from pipeline_src.inference.serve.uploads import UploadLimits

logger = logging.getLogger(__name__)
SHUTDOWN_SECONDS = 3.0  # that an answer or an upload has to end after Ctrl-C


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the index and the address."""
    add = parser.add_argument
    add("folder", type=Path, help="an index (`search build`) or a run (results/<run>)")
    add("--host", default="127.0.0.1", help="address to listen at; default: this machine alone")
    add("--port", type=int, default=8321, help="0 = a free one")
    add("--max-upload", type=int, default=64, metavar="MIB", help="largest file to search by")
    add("--device", default="", help="e.g. cpu, cuda:1; left out: the GPU where there is one")


def run(options: argparse.Namespace) -> int:
    """Serve until it is stopped.

    Raises:
        ConfigError: the address is taken or none of this machine, or an option.
        CheckpointError: the index's own is gone or has other weights.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    if options.max_upload < 1:
        raise ConfigError(f"--max-upload {options.max_upload}; allowed: at least 1")
    with _listen(options.host, options.port) as listening:
        index = find_index(options.folder, options.device)
        model = open_indexed_model(index, options.device)
        limits = UploadLimits(max_bytes=options.max_upload << 20)
        app = make_app(index, model, host=options.host, limits=limits)
        if not _is_loopback(options.host):
            logger.warning("--host %s: everybody who reaches it may see every clip", options.host)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        logger.info("Open http://%s:%d  (Ctrl-C ends it)", shown, listening.getsockname()[1])
        web.run_app(
            app, sock=listening, print=None, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
        )
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is done.

    Raises:
        ConfigError: the address cannot be listened at.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--host {host} --port {port}: cannot listen there ({error}); name another port"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
