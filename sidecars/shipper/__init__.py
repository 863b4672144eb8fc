"""The S3 shipper: every line of log files into a bucket, once."""
