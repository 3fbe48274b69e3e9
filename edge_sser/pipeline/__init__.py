"""The stages between a source and an event: each takes samples, frames or scores, and keeps no thread."""
