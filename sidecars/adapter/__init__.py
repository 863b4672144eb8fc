"""log-adapter: any log in, the format your platform wants out."""
