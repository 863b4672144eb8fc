"""The forward protocol, as Fluentd and Fluent Bit speak it: chunks of records, each held until it is acknowledged."""
