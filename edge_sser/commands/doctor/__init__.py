"""`edge-sser doctor`: what is missing or misconfigured on this machine, each with its remedy."""
