"""The stages between a source and an event. Each takes samples, frames or scores; none has a thread."""
