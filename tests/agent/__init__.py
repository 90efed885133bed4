"""The agent half: what it sees, what it says, and what it must never do to its host."""
