"""Beside other middleware and instrumentation, around it and inside it."""
