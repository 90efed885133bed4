"""Other queues, each asked for the same: done jobs per second, and how soon one is begun."""
