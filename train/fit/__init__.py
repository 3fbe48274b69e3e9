"""The training of a student."""
