"""Sequence encoders, one file each."""
