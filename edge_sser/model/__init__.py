"""The model file: its card, and the backends that compute it."""
