"""Throughput and agreement against the reference Keras model."""
