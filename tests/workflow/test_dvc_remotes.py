"""Results that travel through a folder, a real sshd and an S3 server, and are made again."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import wait_for_port
from tests.workflow.dvc_views import FINETUNED, digest, dvc_stages, snakemake_stages, sync
from tests.workspace import Workspace, planned_jobs

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def ssh_remote(tmp_path_factory):
    """URL of a folder behind a real sshd on this machine, and the options to reach it."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    keygen = shutil.which("ssh-keygen")
    if not sshd or not keygen:
        pytest.skip("no sshd here: install openssh-server, as .ci/run does")
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for key in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    port = free_port()
    options = {
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
        "ListenAddress": "127.0.0.1",
    }
    flags = [f"-o{name}={value}" for name, value in options.items()]
    log = (folder / "log").open("w")
    Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
    server = subprocess.Popen([sshd, "-D", "-e", "-f", os.devnull, f"-p{port}", *flags], stderr=log)
    wait_for_port(port, server)
    yield f"ssh://127.0.0.1:{port}{folder}/store", {"keyfile": str(folder / "user")}
    server.terminate()
    server.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def push_to(workspace: Workspace, url: str, options: dict[str, str]) -> None:
    workspace.run("dvc", "remote", "add", "--local", "--force", "other", url)
    for name, value in options.items():
        workspace.run("dvc", "remote", "modify", "--local", "other", name, value)


@pytest.mark.exhaustive
def test_results_travel_through_the_remote_beside_the_checkout(versioned, tmp_path):
    versioned.run("dvc", "push")
    clone = Workspace(versioned.root.parent / "clone", versioned.env)
    versioned.run("git", "clone", "--quiet", ".", str(clone.root))
    clone.run("dvc", "pull")
    # Without records the first call judges them by what they say.
    assert planned_jobs(clone.snakemake("-n", "all")) == {}
    assert sync(clone)["evaluate_avsiam_tiny_digits"] == "up to date for both"

    clone.set("finetune.lr", 0.01)
    assert snakemake_stages(clone) == FINETUNED
    clone.set("media.jpeg_quality", 9)
    output = clone.run("dvc", "repro", "transcode_digits", fails=True)
    assert "raw clips are not on this machine" in output
    assert "snakemake --forcerun download_clips -- download_digits" in output
    clone.snakemake("--forcerun", "download_clips", "--", "download_digits")
    assert "transcode" in clone.run("dvc", "repro", "transcode_digits")


def test_results_travel_through_ssh(versioned, tmp_path, ssh_remote):
    check_remote(versioned, tmp_path, *ssh_remote)


@pytest.fixture(scope="module")
def s3_remote():
    """URL of a bucket of a server that speaks S3, and the options to reach it."""
    import boto3

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_port(port, server)
    keys = {"access_key_id": "key", "secret_access_key": "secret"}
    aws = {f"aws_{name}": value for name, value in keys.items()}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **aws)
    client.create_bucket(Bucket="results")
    yield "s3://results/av", {"endpointurl": url, "region": "us-east-1", **keys}
    server.terminate()
    server.wait()


@pytest.mark.exhaustive
def test_results_travel_through_s3(versioned, tmp_path, s3_remote):
    check_remote(versioned, tmp_path, *s3_remote)


def check_remote(versioned: Workspace, tmp_path: Path, url: str, options: dict[str, str]) -> None:
    """Push to a remote, clone without a cache, pull, and compare."""
    push_to(versioned, url, options)
    versioned.run("dvc", "push", "--remote", "other")
    clone = Workspace(tmp_path / "clone", versioned.env)
    versioned.run("git", "clone", "--quiet", ".", str(clone.root))
    push_to(clone, url, options)
    clone.run("dvc", "pull", "--remote", "other")
    for pattern in ("digits/shards/*/*", "avsiam_tiny/**/model.safetensors"):
        sent, received = digest(versioned, pattern), digest(clone, pattern)
        assert received
        assert received.items() <= sent.items()
    assert dvc_stages(clone) == set()


@pytest.mark.exhaustive
def test_metrics_are_made_again_from_their_own_commit(versioned, tmp_path):
    metrics = versioned.root / "results/avsiam_tiny/eval/digits/metrics.json"
    stored = json.loads(metrics.read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", stored["git_commit"])
    for key in ("config_sha256", "data_sha256", "versions", "seed"):
        assert stored[key]
    reproduce = ("python", "-m", "pipeline_src", "reproduce")
    output = versioned.run(*reproduce, str(metrics), "--folder", str(tmp_path / "again"))
    assert "the same figures and hashes" in output

    for change, message in [
        ({"git_commit": stored["git_commit"] + "-dirty"}, "the code had changes"),
        ({"git_commit": "unknown"}, "git_commit is unknown"),
        ({"git_commit": "0" * 40}, "is not in this repository"),
        ({"config": None}, "config missing"),
    ]:
        path = tmp_path / "metrics.json"
        path.write_text(json.dumps({**stored, **change}))
        assert message in versioned.run(*reproduce, str(path), fails=True)
