"""Loops for a CPU that make few passes over memory."""
