"""Manifests read, linted and converted: what the `sidecars` command does to pods."""
