"""The HTTP contract without I/O: what each call sends, and how its answer is read."""
