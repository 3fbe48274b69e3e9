"""The model file: its card and its backends."""
