"""The agent half: sees when work begins and ends, and reports it off the request path."""
