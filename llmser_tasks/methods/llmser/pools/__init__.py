"""Where a pool's candidates come from, a file each, which declares itself."""
