"""Lowest layer: errors, settings, paths, events and the recipe; imports nothing of this program."""
