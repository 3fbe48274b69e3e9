"""Recipes that ship: one TOML a trained system."""
