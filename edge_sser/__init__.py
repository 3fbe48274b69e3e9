"""edge-sser: how stressed the speech at a microphone sounds, computed on the device itself."""

__version__ = "0.1.0"
