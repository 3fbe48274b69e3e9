"""The settings: frozen sections, the layers that set them, and how they are shown."""
