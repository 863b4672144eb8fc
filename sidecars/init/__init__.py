"""pod-init: wait, copy, fetch and prepare before the application starts, then get out of the way."""
