"""One file a table of the warehouse."""
