"""The rows of the table of traps."""
