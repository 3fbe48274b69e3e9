"""Checks of Python, its packages and the model."""

from __future__ import annotations

import platform
import sys
from importlib import resources

from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.settings.schema import Runtime

ONLINE_PROVIDER = "AzureExecutionProvider"  # in every build; it sends data to a server, and nothing here uses it
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)


def check_python(context: CheckContext) -> Finding:
    """Checks that this version of Python is supported."""
    version = platform.python_version()
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return Finding(State.FINE, version)
    return Finding(
        State.WARNING,
        f"{version} was not tried, expected 3.{OLDEST_PYTHON[1]} to 3.{NEWEST_PYTHON[1]}",
        "make the .venv with one of those",
    )


def check_runtime(context: CheckContext) -> Finding:
    """Checks that ONNX Runtime loads, and lists what can compute a model here, and why other libraries cannot."""
    from edge_sser.model.cuda import Cuda, CudaError
    from edge_sser.model.onnx_backend import PROVIDERS, onnx_runtime
    from edge_sser.model.rtx import CAPABILITIES, sm_name
    from edge_sser.model.tensorrt_library import RTX, TENSORRT

    onnxruntime = onnx_runtime()
    present = onnxruntime.get_available_providers()
    try:
        cuda = Cuda()
        cuda.close()
        gpu, no_gpu, no_rtx = f"{cuda.name} ({cuda.capability})", "", ""
        if sm_name(cuda.capability) not in CAPABILITIES:
            no_rtx = f"it has no engines for {gpu}"
    except CudaError as error:
        gpu, no_gpu, no_rtx = "", str(error), str(error)
    ways = {
        f"ONNX Runtime's {name.removesuffix('ExecutionProvider')}": no_gpu if name in present else "not in this build"
        for runtime, name in PROVIDERS.items()
        if runtime is not Runtime.CPU
    }
    ways |= {TENSORRT.name: TENSORRT.why_unusable() or no_gpu, RTX.name: RTX.why_unusable() or no_rtx}
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in present if name != ONLINE_PROVIDER)
    lines = [f"{way}: {why or f'can be used on {gpu}'}" for way, why in ways.items()]
    return Finding(State.FINE, "; ".join([f"ONNX Runtime {onnxruntime.__version__} with {names}", *lines]))


def check_model(context: CheckContext) -> Finding:
    """Checks that the model of the settings loads on their runtime, gives a number, and fits their thresholds."""
    import numpy as np

    from edge_sser.model.model import Model
    from edge_sser.monitor.operating import expected_rule
    from edge_sser.pipeline.features import FEATURES

    model = Model.of_settings(context.settings.model)
    stress = model.score(np.zeros((FEATURES.frames, FEATURES.bands), dtype=np.float32)).stress
    if not 0.0 <= stress <= 1.0:
        return Finding(State.PROBLEM, f"{model.path} gives {stress} for silence", "copy or export the model again")
    expected_rule(context.settings, model.card)
    return Finding(State.FINE, f"{model.label}, computed by {model.provider}")


def check_recordings(context: CheckContext) -> Finding:
    """Checks that libsndfile reads a recording."""
    import soundfile

    demo = resources.files("edge_sser") / "data" / "demo.flac"
    with soundfile.SoundFile(str(demo)) as file:
        file.read(1)
    return Finding(State.FINE, f"libsndfile {soundfile.__libsndfile_version__} reads the recording that ships")


def check_speech_gate(context: CheckContext) -> Finding:
    """Checks that the speech gate runs."""
    import numpy as np
    import webrtcvad

    from edge_sser.pipeline.features import FEATURES
    from edge_sser.pipeline.gate import speech_detector
    from edge_sser.settings.schema import Detector

    gate = context.settings.gate
    webrtcvad.Vad(gate.aggressiveness).is_speech(bytes(960), 16_000)
    silence = np.zeros(FEATURES.window_samples, dtype=np.float32)
    window = np.zeros((FEATURES.frames, FEATURES.bands), dtype=np.float32)
    speech_detector(gate).ratio(silence, window, 0.0)
    network = gate.detector is Detector.NETWORK
    return Finding(State.FINE, "network that ships" if network else "WebRTC voice activity detection")
