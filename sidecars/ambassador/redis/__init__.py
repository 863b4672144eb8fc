"""Redis mode: commands are sharded over several servers, as twemproxy shards them, for the clients of today."""
