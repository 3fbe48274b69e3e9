"""Where events go: standard output, a terminal, a file, a broker."""
