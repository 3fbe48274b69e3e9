"""Live view of `listen` on a terminal: state, layout, screen, and the sink that joins them."""
