"""One line in an agent's web app, and its life appears in Ops-Core."""
