"""The catalogue of shell loops and images that `sidecars convert` knows, a row for each, as docs/convert.md has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sidecars.pods.verdict import Kind


class Row(NamedTuple):
    """What stands in manifests, what takes its place, and what a verdict on it may be, the usual one first."""

    seen: str
    instead: str
    kinds: tuple[Kind, ...]


ROWS = {
    1: Row("`until nslookup SVC; do sleep 2; done`", "`pod-init wait dns://SVC`", ("exact", "partial")),
    2: Row("`until nc -z HOST PORT`, `</dev/tcp/HOST/PORT`", "`pod-init wait tcp://HOST:PORT`", ("exact", "partial")),
    3: Row("`until wget -q URL`", "`pod-init wait URL`", ("exact", "partial")),
    4: Row("`until curl -sf URL`", "`pod-init wait URL`", ("exact", "partial")),
    5: Row("`until pg_isready -h HOST`", "`pod-init wait postgres://HOST`", ("exact", "partial")),
    6: Row("`until mysqladmin ping -hHOST`", "`pod-init wait mysql://HOST`", ("exact", "partial")),
    7: Row("`until redis-cli -h HOST ping`", "`pod-init wait redis://HOST`", ("exact", "partial")),
    8: Row("`until kubectl get ...`, `kubectl wait`", "`pod-init wait k8s:KIND/NAME`", ("exact", "partial")),
    9: Row("`for i in $(seq 60); do nc -z ... && exit 0; sleep 1; done`", "`pod-init wait ... --timeout=1m`",
           ("exact", "partial")),
    10: Row("`while [ ! -f FILE ]; do sleep 1; done`", "`pod-init wait file://FILE`", ("exact", "partial")),
    11: Row("`sleep 30` before the start", "a startupProbe, or `pod-init wait`", ("native", "partial")),
    12: Row("`tail -f FILE`", "log-tailer", ("exact", "partial")),
    13: Row("`tail -F`, `tail -f /logs/*.log`", "log-tailer", ("exact", "partial")),
    14: Row("`while true; do cat FILE; sleep 30; done`", "log-tailer", ("exact", "partial")),
    15: Row("`nc -l -p 8080 -e cat FILE`, `httpd -f`", "log-adapter, if it is a log", ("partial", "refuse")),
    16: Row("`cp -r /src/. /dest`", "`pod-init copy`; from another image a volume of it",
         ("exact", "native", "partial")),
    17: Row("`mkdir -p DIR`, `chown -R U:G DIR`", "`pod-init mkdir`; fsGroup", ("exact", "native", "partial")),
    18: Row("`chmod -R 777 DIR`", "fsGroup", ("native", "partial")),
    19: Row("`rm -rf DIR/lost+found`", "a subPath", ("native",)),
    20: Row("`git clone URL DIR`", "`pod-init fetch git+URL DIR`", ("exact", "partial")),
    21: Row("`while true; do git pull; sleep 30; done`", "git-syncer", ("partial", "exact")),
    22: Row("`aws s3 sync s3://BUCKET/PREFIX DIR`", "`pod-init fetch s3://BUCKET/PREFIX/ DIR`", ("exact", "partial")),
    23: Row("`while true; do aws s3 sync ...; done`", "s3-shipper, if it sends logs", ("refuse", "partial")),
    24: Row("`mc mirror --watch`", "", ("refuse",)),
    25: Row("`wget -O FILE URL`, `curl -o FILE URL`", "`pod-init fetch URL FILE`", ("exact", "partial")),
    26: Row("`wget -O- URL | tar xz -C DIR`", "`pod-init fetch URL DIR --extract`", ("exact", "partial")),
    27: Row("`envsubst < TEMPLATE > FILE`", "`pod-init render TEMPLATE:FILE`", ("exact", "partial")),
    28: Row("`sed -i s/TOKEN/$TOKEN/ FILE`", "`pod-init render`", ("partial",)),
    29: Row('`echo "$X" > FILE`, `cat <<EOF > FILE`', "`pod-init write FILE`", ("exact", "partial")),
    30: Row("`socat TCP-LISTEN:PORT,fork TCP:HOST:PORT`", "ambassador", ("exact", "partial")),
    31: Row("`while inotifywait ...; do nginx -s reload; done`", "", ("refuse",)),
    32: Row("`while true; do pg_dump ...; sleep 86400; done`", "a CronJob", ("refuse",)),
    33: Row("`while true; do find DIR -mtime +7 -delete; done`", "", ("refuse",)),
    34: Row("`curl -X POST :15020/quitquitquit`, waits for a file to end by", "a native sidecar; `pod-init quit`",
            ("exact", "native", "partial")),
    35: Row("`sysctl -w vm.max_map_count=262144`", "", ("refuse",)),
    36: Row("`sleep infinity`, `tail -f /dev/null`", "`pod-init pause`", ("exact", "partial")),
    37: Row("`openssl req -x509 ...`, `keytool -import`", "", ("refuse",)),
    38: Row("`while true; do date >> LOG; sleep 5; done`", "", ("refuse",)),
}  # fmt: skip

IMAGES = {
    "bbachin1/adapter-node-server": Row("the image", "log-adapter", ("exact", "partial")),
    "lrakai/fluentd-s3": Row("the image", "s3-shipper, with the same fluent.conf", ("exact", "partial")),
    "git-sync": Row("any registry and version", "git-syncer, with the same settings", ("exact", "partial")),
    "malexer/twemproxy": Row("the image", "ambassador, with the same variables", ("exact", "partial")),
    "alpine/socat": Row("the image", "as row 30", ("exact", "partial")),
    "jwilder/dockerize": Row("with -wait and -timeout", "`pod-init wait`", ("exact", "partial")),
    "groundnuty/k8s-wait-for": Row("for jobs and pods", "`pod-init wait k8s:job/NAME`", ("exact", "partial")),
    "bitnami/kubectl": Row("and other images of kubectl, with wait", "as row 8", ("exact", "partial")),
}


def table() -> Iterator[str]:
    """The rows as lines of Markdown."""
    yield "| row | in manifests | in its place | |"
    yield "| --- | --- | --- | --- |"
    for number, row in ROWS.items():
        yield _line(str(number), row.seen, row)
    for name, row in IMAGES.items():
        yield _line("image", f"`{name}`: {row.seen}" if row.seen != "the image" else f"`{name}`", row)


def _line(name: str, seen: str, row: Row) -> str:
    cells = (name, seen.replace("|", "\\|"), row.instead or "nothing of ours", ", ".join(row.kinds))
    return f"| {' | '.join(cells)} |"
