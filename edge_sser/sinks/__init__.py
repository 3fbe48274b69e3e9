"""Destinations of events: standard output, a terminal, a file, a metrics endpoint, an MQTT broker."""
