"""Formats of dumps, one file each."""
