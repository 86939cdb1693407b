"""Findings on a finished map."""
