"""What else is wrong with manifests, beside the shell loops in them: `sidecars lint`."""
