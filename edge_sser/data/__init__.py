"""The recording that ships: synthesised speech, made by scripts/make_demo_recording.py."""
