"""fluentd's configuration, read as a plan of what is shipped where; and the offsets that fluentd left behind."""

from sidecars.shipper.fluentd.configuration import read

__all__ = ["read"]
