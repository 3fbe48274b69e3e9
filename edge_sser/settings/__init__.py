"""The settings: frozen sections, layers of origins, and their display."""
