"""git-syncer: a directory at a revision of a git repository, by git-sync's contract."""
