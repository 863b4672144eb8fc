"""ambassador: the application talks to localhost, and the ambassador to the world on its behalf."""
