"""What recommends: one file a method, which declares itself."""
