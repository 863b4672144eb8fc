"""What is served on --listen: the log as JSON, live, and a page for people."""
