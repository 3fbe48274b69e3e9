"""Fixtures of the tests of export."""

from toy_corpus import toy_corpus, toy_recipe, toy_table

__all__ = ["toy_corpus", "toy_recipe", "toy_table"]
