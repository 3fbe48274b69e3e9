"""A process that analyses recordings, so that a crash or a hang of a decoder is its own. Usage: …py MODEL.

For each path on standard input there is a line on standard output: {"status": 0, "out": "…", "err": "…"}, with all that
the command and the C libraries under it printed.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import tempfile

from edge_sser.cli import main

MAX_BYTES = 4 * 2**30  # of address space: a damaged header must not get the machine's memory


def analyze(path: str, model: str) -> dict[str, object]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        status = main(["analyze", path, "--model", model])
        sys.stdout.flush()
        sys.stderr.flush()
        ctypes.CDLL(None).fflush(None)
        out.seek(0)
        err.seek(0)
        return {"status": status, "out": out.read().decode(), "err": err.read().decode()}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        print(json.dumps(analyze(line.rstrip("\n"), sys.argv[1])), file=answers, flush=True)
