"""What every sidecar shares: settings, lifecycle, the probes' door, logging, disk, and following files."""
