"""What README and docs show, held against the code."""
