"""No command leaves its memory, and the sound in it, in a file when it crashes."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [["schema"], ["listen", "--source", "gone.wav"], ["train"], ["nonsense"]])
def test_no_command_may_dump_core(arguments):
    program = (
        "import resource, sys; from edge_sser.cli import main\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_CORE)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)); main(sys.argv[1:])\n"
        "print(*resource.getrlimit(resource.RLIMIT_CORE), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "0 0"
