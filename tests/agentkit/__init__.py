"""AgentKit's webhook and API, and the simulated AgentKit that stands in for it."""
