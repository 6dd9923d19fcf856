"""Measurements of the measuring itself."""
