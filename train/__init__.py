"""Training on a workstation: from recordings of labelled speech to a trained student."""
