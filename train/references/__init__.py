"""Reference systems of the field: their front ends, training and protocols, one command away."""
