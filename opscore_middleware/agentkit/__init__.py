"""AgentKit: its webhook, verified and parsed, and a typed client of its API."""
