"""Experiments: what is compared on what, how it is run and kept, and what came out."""
