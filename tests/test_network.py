"""Nothing reaches for a network: not an import of any module, not a merge of two files."""

import os
import subprocess
import sys
from pathlib import Path

from tests.bounds import ALONE

WATCHED = """
import importlib, pkgutil, sys

def refuse(event, about):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        raise RuntimeError(f"reached for the network: {event} {about}")

sys.addaudithook(refuse)
import dwalign
for module in pkgutil.walk_packages(dwalign.__path__, "dwalign."):
    # those of formats and frontends need extras
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            assert "pip install" in str(error) or "No module named" in str(error), error
"""


def test_no_network(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    program = WATCHED + ALONE
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "both.safetensors").exists()


def test_the_watch_sees_a_connection(tmp_path):
    program = WATCHED.partition("import dwalign")[0] + "import socket\nsocket.create_connection(('localhost', 9))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert "reached for the network" in done.stderr
