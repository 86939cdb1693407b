"""Measure many slides: the loop, the watch, and the record of each slide."""
