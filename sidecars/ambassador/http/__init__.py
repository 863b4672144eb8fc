"""HTTP mode: requests are checked, completed and passed on, for an application that talks to localhost."""
