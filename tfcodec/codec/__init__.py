"""Encoder and decoder: the only place that joins bytes, pictures, sound and network."""
