"""Texts of items and users → vectors, and who is near whom by them."""
