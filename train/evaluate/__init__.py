"""The evaluation battery: everything that is asked of a system before anybody believes it."""
