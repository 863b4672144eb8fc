"""The suite on one machine without a container engine, for people who want to see it before they deploy it."""
