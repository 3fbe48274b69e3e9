"""edge-sser: how stressed the speech at a microphone sounds, computed on the device itself.

The names in `__all__` are the interface for other Python programs. They follow semantic versioning; every other name
may change with any version. Each is imported when it is first used, so that `import edge_sser` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds

__version__ = "0.1.0"

__all__ = [
    "Analysis",
    "AudioInputError",
    "EdgeSserError",
    "Episode",
    "Event",
    "Health",
    "HealthState",
    "Level",
    "Model",
    "ModelError",
    "Phase",
    "Reading",
    "Score",
    "Settings",
    "SettingsError",
    "SourceError",
    "StressMonitor",
    "__version__",
    "as_dict",
    "log_mel",
    "to_json",
]

if TYPE_CHECKING:
    from edge_sser.api import Analysis, StressMonitor
    from edge_sser.errors import AudioInputError, EdgeSserError, ModelError, SettingsError, SourceError
    from edge_sser.events import Episode, Event, Health, HealthState, Level, Phase, Reading, as_dict, to_json
    from edge_sser.model.model import Model, Score
    from edge_sser.pipeline.features import log_mel
    from edge_sser.settings.schema import Settings

_HOMES = {
    "edge_sser.api": ("Analysis", "StressMonitor"),
    "edge_sser.errors": ("AudioInputError", "EdgeSserError", "ModelError", "SettingsError", "SourceError"),
    "edge_sser.events": (
        *("Episode", "Event", "Health", "HealthState", "Level", "Phase", "Reading"),
        *("as_dict", "to_json"),
    ),
    "edge_sser.model.model": ("Model", "Score"),
    "edge_sser.pipeline.features": ("log_mel",),
    "edge_sser.settings.schema": ("Settings",),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value: object = getattr(import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
