"""Files as a stream of batches: found, watched, identified, read, remembered."""
