"""Who had what, and in which order: histories to train on, and the items that were cut off to test with."""
