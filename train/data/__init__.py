"""Recordings as training data: audio, labels, features, augmentation."""
