"""`edge-sser web`: a page that shows the history and what is heard now, served by a process of its own."""
