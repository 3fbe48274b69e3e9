"""A process that loads model files and scores windows with them, so that a crash or a hang is its own.

For each path on standard input there is a line on standard output: {"loaded": true, "message": "what went wrong"}.
The check of a model, which ends a graph that loops for ever, takes two seconds at most here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from edge_sser.errors import ModelError
from edge_sser.model import model as model_module
from edge_sser.pipeline.features import FEATURES

MAX_BYTES = 6 * 2**30  # of address space: a graph that wants all memory must not get the machine's


def main() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    model_module.CHECK_SECONDS = 2.0
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (2, FEATURES.frames, FEATURES.bands)).astype(np.float32)
    windows[1] = 120.0
    for line in sys.stdin:
        answer = {"loaded": False, "message": ""}
        try:
            model = model_module.Model.load(Path(line.rstrip("\n")))
            answer["loaded"] = True
            stress = [model.score(window).stress for window in windows]
            if not all(0.0 <= value <= 1.0 for value in stress):
                raise AssertionError(f"stress is {stress}")
            model.label.encode()
        except ModelError as error:
            answer["message"] = str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
