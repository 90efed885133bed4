"""An agent that summarises text, one line away from Ops-Core."""
