"""History of levels, episodes and health on the device: the file, the writer's rows, its reader, and live values."""
