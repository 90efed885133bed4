"""Workflows as they run: sessions, their tasks, and who works on them."""
