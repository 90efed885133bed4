"""Giving tasks to agents: claiming, sending, hearing what became of them."""
