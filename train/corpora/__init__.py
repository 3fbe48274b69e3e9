"""Readers of corpora: each turns what a corpus ships into utterances of one table."""
