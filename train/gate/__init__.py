"""Training of the speech gate's network: sounds that are not speech, windows, the network and its measurement."""
