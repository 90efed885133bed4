"""Where the work of a framework really is: one small module per framework."""
