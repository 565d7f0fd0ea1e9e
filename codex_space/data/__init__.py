"""Datasets: reading files in bounded memory, recognising formats, naming what is wrong; imports core only."""
