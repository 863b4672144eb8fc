"""In the place of twemproxy, which calls itself nutcracker: its file, its flags, its counters."""
