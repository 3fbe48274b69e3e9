"""Readers of corpora: each turns the files of a corpus into utterances of one table."""
