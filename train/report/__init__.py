"""The evaluation as one page and one JSON file."""
