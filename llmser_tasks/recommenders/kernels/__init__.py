"""Loops that a CPU runs in few passes over memory."""
