"""Sources of audio: a microphone, a file, a raw stream. Each yields 16 kHz mono blocks and nothing else."""
