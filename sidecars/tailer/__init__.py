"""log-tailer: what is written to files, streamed to stdout or to Fluentd."""
