"""The Kubernetes API, as far as a wait needs it: one object, or a list of some, asked for from inside a pod."""
