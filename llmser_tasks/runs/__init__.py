"""Runs from start to end: the steps in order, what they cost, refreshes."""
