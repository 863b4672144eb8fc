"""Ready-made Kubernetes sidecar and init images, one program each."""

__version__ = "0.1.0"
