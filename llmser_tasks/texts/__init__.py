"""Texts of items → vectors."""
