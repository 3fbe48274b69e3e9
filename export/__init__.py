"""From a trained checkpoint to the model files that a device runs."""
