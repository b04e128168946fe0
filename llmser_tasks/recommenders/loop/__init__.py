"""A training from its first epoch to its last: batches, Adam, early stopping, checkpoints, several processes."""
