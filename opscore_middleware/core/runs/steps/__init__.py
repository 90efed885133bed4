"""Steps of a run: pure functions from a run to the run that follows, each settled to its end."""
