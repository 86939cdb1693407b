"""Slides in, tiles out."""
