"""A broker inside the process: what a channel reads and writes, without a socket."""
