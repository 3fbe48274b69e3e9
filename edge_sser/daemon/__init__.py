"""The daemon: wiring, the loop over all sources, reload, and the service manager."""
