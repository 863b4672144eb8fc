# ruff: noqa: E501  (a case is a line, however long)
"""What people write into command and args, and what has to come of it: by rows of the catalogue of shell loops.

exact     "2: pod-init wait tcp://db:5432 --timeout=5m"; several containers are joined by " | "
others    "partial 2", "refuse 35", "native 17"
nothing   ""
"""

from __future__ import annotations

from typing import NamedTuple

from sidecars.pods.verdict import Container

MOUNTS = (
    ("data", "/data", False),
    ("shared", "/shared", False),
    ("logs", "/logs", False),
    ("repo", "/git", False),
    ("config", "/config", True),
)
ENV = {"DB_HOST": "db", "DB_PORT": "5432", "EMPTY": "", "PASSWORD": None, "KEY": None}
NAMESPACE = "$(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)"


class Case(NamedTuple):
    name: str
    container: Container
    expected: str

    def __str__(self) -> str:
        return self.name


def init(script: str | tuple[str, ...], image: str = "busybox:1.36", **more: object) -> Container:
    """An init container; a text is what `sh -c` gets."""
    command = ("sh", "-c", script) if isinstance(script, str) else script
    given: dict[str, object] = {"command": command, "image": image, "init": True, "mounts": MOUNTS, "env": ENV}
    return Container(**{**given, **more})  # type: ignore[arg-type]


def side(script: str | tuple[str, ...], image: str = "busybox:1.36", **more: object) -> Container:
    """A container beside an application."""
    return init(script, image, **{"init": False, "others": ("example/shop:1.0",), **more})


def alone(script: str | tuple[str, ...], image: str = "example/shop:1.0", **more: object) -> Container:
    """The pod's only container."""
    return init(script, image, **{"init": False, "only": True, **more})


def _waits() -> list[Case]:
    """Rows 1 to 11."""
    loop = "until {}; do echo not yet; sleep 2; done"
    return [
        Case("nslookup", init(loop.format("nslookup cache")), "1: pod-init wait dns://cache --timeout=5m"),
        Case(
            "nslookup with the pod's namespace",
            init(loop.format(f"nslookup cache.{NAMESPACE}.svc.cluster.local")),
            "1: pod-init wait dns://cache --timeout=5m",
        ),
        Case(
            "nslookup with the namespace in a variable",
            init(f"NS={NAMESPACE}; " + loop.format('nslookup "cache.$NS.svc"')),
            "1: pod-init wait dns://cache --timeout=5m",
        ),
        Case(
            "nslookup in another namespace",
            init(loop.format("nslookup cache.prod.svc.cluster.local > /dev/null 2>&1")),
            "1: pod-init wait dns://cache.prod.svc.cluster.local --timeout=5m",
        ),
        Case(
            "nslookup of names from the downward API",
            init(loop.format("nslookup cache.$NS"), env={"NS": None}),
            "1: pod-init wait dns://cache.$(NS) --timeout=5m",
        ),
        Case("nslookup at a name server", init(loop.format("nslookup cache 10.0.0.10")), "partial 1"),
        Case("getent", init(loop.format("getent hosts cache")), "1: pod-init wait dns://cache --timeout=5m"),
        Case("host", init(loop.format("host -t A cache")), "1: pod-init wait dns://cache --timeout=5m"),
        Case("getent in a test", init(loop.format('[ -n "$(getent hosts cache)" ]')), "1: pod-init wait dns://cache --timeout=5m"),
        Case("dig", init(loop.format('[ -n "$(dig +short cache)" ]')), "1: pod-init wait dns://cache --timeout=5m"),
        Case("ping", init(loop.format("ping -c1 cache")), "partial 1"),
        Case("nslookup and grep", init(loop.format("nslookup cache | grep -q Address")), "1: pod-init wait dns://cache --timeout=5m"),
        Case("nc -z", init(loop.format("nc -z db 5432")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("while not nc", init("while ! nc -zv -w 3 db 5432; do sleep 1; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("nc with words attached", init(loop.format("nc -w30 -vz db 5432 </dev/null")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("nc of variables", init(loop.format('nc -z "$DB_HOST" ${DB_PORT}')), "2: pod-init wait tcp://$(DB_HOST):$(DB_PORT) --timeout=5m"),
        Case("nc with a default", init(loop.format("nc -z ${DB_HOST:-db} ${DB_PORT:-5432}")), "2: pod-init wait tcp://$(DB_HOST):$(DB_PORT) --timeout=5m"),
        Case("nc with a default that counts", init(loop.format("nc -z ${EMPTY:-db} 5432")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("nc of variables that Kubernetes puts in", init(loop.format("nc -z $(DB_HOST) $(DB_PORT)")), "2: pod-init wait tcp://$(DB_HOST):$(DB_PORT) --timeout=5m"),
        Case("nc of a variable of the image", init(loop.format("nc -z $HOST 5432")), "partial 2"),
        Case("nc of a variable of the script", init("HOST=db\nPORT=5432\n" + loop.format("nc -z $HOST $PORT")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("nc of a variable that changes", init("for H in $(cat /config/hosts); do until nc -z $H 1; do sleep 1; done; done"), ""),
        Case("nc of a template", init(loop.format("nc -z {{ .Values.db.host }} 5432")), "partial 2"),
        Case("nc by UDP", init(loop.format("nc -zu dns 53")), "partial 2"),
        Case("nc of two ports", init(loop.format("nc -z db 5432 5433")), "2: pod-init wait tcp://db:5432 tcp://db:5433 --timeout=5m"),
        Case("two loops in a row", init(f"{loop.format('nc -z db 5432')}; {loop.format('nc -z cache 6379')}"), "2: pod-init wait tcp://db:5432 tcp://cache:6379 --timeout=5m"),
        Case("two in one condition", init(loop.format("nc -z db 5432 && nc -z cache 6379")), "2: pod-init wait tcp://db:5432 tcp://cache:6379 --timeout=5m"),
        Case("waits with a step between", init(f"{loop.format('nc -z db 5432')}; mkdir -p /data/a; {loop.format('nc -z cache 6379')}"), "2: pod-init wait tcp://db:5432 --timeout=5m | pod-init mkdir /data/a --mode=2775 | pod-init wait tcp://cache:6379 --timeout=5m"),
        Case("one of two", init(loop.format("nc -z a 1 || nc -z b 2")), "2: pod-init wait tcp://a:1 tcp://b:2 --any --timeout=5m"),
        Case("a loop over hosts", init("for h in db cache; do while ! nc -z $h 80; do sleep 1; done; done; echo all there"), "2: pod-init wait tcp://db:80 tcp://cache:80 --timeout=5m"),
        Case("a function", init("ready() { until nc -z $1 $2; do sleep 1; done; }\nready db 5432\nready cache 6379"), "2: pod-init wait tcp://db:5432 tcp://cache:6379 --timeout=5m"),
        Case("bash's device", init("until (echo > /dev/tcp/db/5432) >/dev/null 2>&1; do sleep 1; done", "bash:5"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("bash's device opened", init(("bash", "-c", "until exec 3<>/dev/tcp/db/5432; do sleep 1; done"), "bash:5"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("bash's device in a bash with a timeout", init("until timeout 1 bash -c '</dev/tcp/db/5432'; do sleep 1; done", "bash:5"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("the opposite", init("while nc -z old 80; do sleep 1; done"), "2: pod-init wait not:tcp://old:80 --timeout=5m"),
        Case("telnet", init(loop.format("echo quit | telnet db 5432")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("four letters for zookeeper", init(loop.format("echo ruok | nc -w 2 zk 2181 | grep imok")), "2: pod-init wait tcp://zk:2181 --timeout=5m"),
        Case("a single look", init(("nc", "-vz", "-w30", "db", "5432")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("a single look whose failure is none", init("nc -z db 5432; echo looked"), "partial 2"),
        Case("a single look that ends the script", init("set -e; nc -z db 5432; echo there"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with a break", init("while true; do nc -z db 5432 && break; sleep 3; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with words and a break", init("while true; do nc -z db 5432 && echo there && break; sleep 3; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with a group that breaks", init("while (( 1 )); do nc -z db 5432 && { echo there; break; }; sleep 3; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with a break or a sleep", init("while [ 1 -eq 1 ]; do nc -z db 5432 && break || sleep 1; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless the other way round", init("for ((;;)); do ! nc -z db 5432 || break; sleep 1; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with an if", init("while :; do if nc -z db 5432; then echo there; exit 0; fi; sleep 3; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with an else", init("while [ 1 ]; do if ! nc -z db 5432; then sleep 3; else break; fi; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("endless with a status", init("while true; do nc -z db 5432; if [ $? -eq 0 ]; then break; fi; sleep 1; done"), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("a loop that does more", init("until nc -z db 5432; do curl http://pager/late; sleep 2; done"), "partial 2"),
        Case("a loop with its output in a file", init("until nc -z db 5432; do sleep 2; done > /data/out"), ""),
        Case("a wait and then work", init(loop.format("nc -z db 5432") + "; ./manage.py migrate", "example/shop"), "partial 2"),
        Case("wget --spider", init(loop.format("wget -q --spider http://api:8080/up")), "3: pod-init wait http://api:8080/up?status=2xx,3xx --timeout=5m"),
        Case("wget -O-", init(loop.format("wget -T 2 -qO- http://api/up >/dev/null")), "3: pod-init wait http://api/up?status=2xx,3xx --timeout=5m"),
        Case("wget with parameters", init(loop.format("wget -qO /dev/null 'http://es:9200/_cluster/health?wait_for_status=yellow'")), "3: pod-init wait http://es:9200/_cluster/health?wait_for_status=yellow#status=2xx,3xx --timeout=5m"),
        Case("busybox's wget checks no certificate", init(loop.format("wget -q --spider https://api/")), "3: pod-init wait https://api/?status=2xx,3xx&insecure --timeout=5m"),
        Case("wget with a header", init(loop.format("wget -q --header 'X-A: b' -O- http://api/")), "partial 3"),
        Case("wget through a proxy", init(loop.format("wget -q --spider http://api/"), env={"http_proxy": "http://p:3128"}), "partial 3"),
        Case("curl -f", init(loop.format("curl -sf -o /dev/null http://api/up"), "curlimages/curl"), "4: pod-init wait http://api/up?status=2xx,3xx --timeout=5m"),
        Case("curl without -f", init(loop.format("curl --silent api:8080"), "curlimages/curl"), "4: pod-init wait http://api:8080?status=2xx,3xx,4xx --timeout=5m"),
        Case("curl with an authority", init(loop.format("curl -fs --cacert /config/ca.crt https://api/up"), "curlimages/curl"), "4: pod-init wait https://api/up?status=2xx,3xx&ca=/config/ca.crt --timeout=5m"),
        Case("curl with an authority of its image", init(loop.format("curl -fs --cacert /etc/ca.crt https://api/up"), "curlimages/curl"), "partial 4"),
        Case("curl -k", init(loop.format("curl -fsk https://api/up"), "curlimages/curl"), "4: pod-init wait https://api/up?status=2xx,3xx&insecure --timeout=5m"),
        Case("curl's status", init("while [ \"$(curl -s -o /dev/null -w '%{http_code}' http://api/up)\" != 200 ]; do sleep 5; done", "curlimages/curl"), "4: pod-init wait http://api/up?status=200 --timeout=5m"),
        Case("curl's status by number", init("until [ $(curl -so /dev/null -w '%{http_code}' http://api/) -eq 401 ]; do sleep 5; done", "curlimages/curl"), "4: pod-init wait http://api/?status=401 --timeout=5m"),
        Case("curl and grep", init(loop.format("curl -s http://api/health | grep -q UP"), "curlimages/curl"), "4: pod-init wait http://api/health?status=1xx,2xx,3xx,4xx,5xx&body=UP --timeout=5m"),
        Case("curl with a password", init(loop.format("curl -sf http://u:p@api/"), "curlimages/curl"), "partial 4"),
        Case("curl once", init("curl -s http://api/warm-up", "curlimages/curl"), "partial 4"),
        Case("curl once, of which nothing is kept", init("curl -fsS -o /dev/null http://api/up", "curlimages/curl"), "4: pod-init wait http://api/up?status=2xx,3xx --timeout=5m"),
        Case("curl that is looked for", init("command -v curl || apk add curl\n" + loop.format("curl -sf http://api/"), "alpine:3"), "4: pod-init wait http://api/?status=2xx,3xx --timeout=5m"),
        Case("curl that posts", init(loop.format("curl -sf -X POST http://api/"), "curlimages/curl"), "partial 4"),
        Case("curl installed before", init("apk add --no-cache curl && " + loop.format("curl -sf http://api/"), "alpine:3"), "4: pod-init wait http://api/?status=2xx,3xx --timeout=5m"),
        Case("pg_isready", init(loop.format("pg_isready -h db -p 5432 -U shop -q"), "postgres:16"), "5: pod-init wait postgres://db:5432 --timeout=5m"),
        Case("pg_isready by the environment", init(loop.format("pg_isready"), "postgres:16", env={"PGHOST": "db", "PGPASSWORD": None}), "5: pod-init wait postgres://$(PGHOST):5432 --timeout=5m"),
        Case("pg_isready of itself", init(loop.format("pg_isready"), "postgres:16"), "partial 5"),
        Case("pg_isready with a variable before", init(loop.format("PGHOST=db pg_isready"), "postgres:16"), ""),
        Case("psql", init(loop.format("PGPASSWORD=$PASSWORD psql -h db -U shop -c 'select 1'"), "postgres:16"), "partial 5"),
        Case("mysqladmin", init(loop.format('mysqladmin ping -h"$DB_HOST" -uroot -p"$PASSWORD" --silent'), "mysql:8"), "6: pod-init wait mysql://$(DB_HOST):3306 --timeout=5m"),
        Case("mysql with a question", init(loop.format("mysql -h db -u root -p$PASSWORD -e 'SELECT 1'"), "mysql:8"), "partial 6"),
        Case("redis-cli", init(loop.format("redis-cli -h cache -p 6380 -a $PASSWORD ping | grep PONG"), "redis:7"), "7: pod-init wait redis://cache:6380 --timeout=5m"),
        Case("redis-cli compared", init('until [ "$(redis-cli -h cache ping)" = "PONG" ]; do sleep 1; done', "redis:7"), "7: pod-init wait redis://cache:6379 --timeout=5m"),
        Case("redis-cli compared the other way", init('while [ "$(redis-cli -h cache ping)" != "PONG" ]; do sleep 1; done', "redis:7"), "7: pod-init wait redis://cache:6379 --timeout=5m"),
        Case("mongosh", init(loop.format("mongosh --host mongo --eval 'db.ping()'"), "mongo:7"), "partial 2"),
        Case("grpc_health_probe", init(loop.format("grpc_health_probe -addr=api:50051"), "example/probe"), "2: pod-init wait grpc://api:50051 --timeout=5m"),
        Case("kubectl wait", init(("kubectl", "wait", "--for=condition=complete", "--timeout=10m", "job/import"), "bitnami/kubectl"), "8: pod-init-full wait k8s:job/import --timeout=10m"),
        Case("kubectl wait by label", init("kubectl -n prod wait pod -l app=api --for=condition=Ready", "bitnami/kubectl"), "8: pod-init-full wait k8s:pod?selector=app=api&namespace=prod --timeout=5m"),
        Case("kubectl rollout", init("kubectl rollout status deployment/api --timeout=90s", "bitnami/kubectl"), "8: pod-init-full wait k8s:deployment/api --timeout=90s"),
        Case("kubectl get of what has no state", init(loop.format("kubectl get configmap settings"), "bitnami/kubectl"), "8: pod-init-full wait k8s:configmap/settings --timeout=5m"),
        Case("kubectl get of a job", init(loop.format("kubectl get job import"), "bitnami/kubectl"), "partial 8"),
        Case("kubectl wait for anything else", init("kubectl wait --for=condition=Established crd/shops.example.com", "bitnami/kubectl"), "8: pod-init-full wait k8s:crd/shops.example.com?condition=Established --timeout=5m"),
        Case("kubectl wait for an end", init("kubectl wait --for=delete pod/old --timeout=60s", "bitnami/kubectl"), "8: pod-init-full wait not:k8s:pod/old --timeout=1m"),
        Case("kubectl wait for a value", init("kubectl wait --for=jsonpath='{.status.phase}'=Bound pvc/data", "bitnami/kubectl"), "8: pod-init-full wait k8s:pvc/data?jsonpath={.status.phase}&value=Bound --timeout=5m"),
        Case("kubectl wait for what it makes", init("kubectl wait --for=create pod/new", "bitnami/kubectl"), "partial 8"),
        Case("kubectl wait for all", init("kubectl wait --for=condition=Ready pods --all", "bitnami/kubectl"), "partial 8"),
        Case("kubectl and grep", init(loop.format("kubectl get secret shop | grep shop"), "bitnami/kubectl"), "partial 8"),
        Case("kubectl apply", init("kubectl apply -f /config", "bitnami/kubectl"), ""),
        Case("kubectl waits in the background", init("kubectl wait --for=condition=complete job/a & kubectl wait --for=condition=failed job/a & wait -n", "bitnami/kubectl"), ""),
        Case("tries of seq", init("for i in $(seq 1 60); do nc -z db 5432 && exit 0; sleep 2; done; exit 1"), "9: pod-init wait tcp://db:5432 --timeout=2m"),
        Case("tries of braces", init(("bash", "-c", "for i in {1..30}; do if nc -z db 5432; then exit 0; fi; sleep 1; done; echo late; exit 1"), "bash:5"), "9: pod-init wait tcp://db:5432 --timeout=30s"),
        Case("tries of bash", init(("bash", "-ec", "for ((i = 0; i < 20; i++)); do nc -z db 5432 && exit 0; sleep 3; done; exit 1"), "bash:5"), "9: pod-init wait tcp://db:5432 --timeout=1m"),
        Case("tries by hand", init("n=0; until nc -z db 5432; do n=$((n+1)); [ $n -ge 10 ] && exit 1; sleep 6; done"), "9: pod-init wait tcp://db:5432 --timeout=1m"),
        Case("tries by hand with words", init("n=0; until nc -z db 5432; do n=$((n+1)); [ $n -ge 10 ] && echo late && exit 1; sleep 6; done"), "9: pod-init wait tcp://db:5432 --timeout=1m"),
        Case("tries by hand with a group", init("n=0; until nc -z db 5432; do n=$((n+1)); [ $n -lt 10 ] || { echo late; exit 1; }; sleep 6; done"), "9: pod-init wait tcp://db:5432 --timeout=1m"),
        Case("tries in an arithmetic condition", init(("bash", "-c", "i=0; while (( i < 30 )); do nc -z db 5432 && exit 0; ((i++)); sleep 1; done; exit 1"), "bash:5"), "9: pod-init wait tcp://db:5432 --timeout=30s"),
        Case("tries by hand with an if", init('n=0\nwhile ! nc -z db 5432; do\n  if [ "$n" -gt 20 ]; then\n    echo late >&2\n    exit 1\n  fi\n  n=$(expr $n + 1)\n  sleep 1\ndone'), "9: pod-init wait tcp://db:5432 --timeout=20s"),
        Case("tries that end in silence", init("for i in 1 2 3; do nc -z db 5432 && break; sleep 1; done"), "partial 9"),
        Case("tries in the condition", init("i=0; while [ $i -lt 9 ]; do nc -z db 5432 && exit 0; i=$((i+1)); sleep 5; done; exit 1"), "9: pod-init wait tcp://db:5432 --timeout=45s"),
        Case("a time in the condition", init("until nc -z db 5432 || [ $i -gt 9 ]; do i=$((i+1)); sleep 1; done; [ $i -le 9 ] || exit 1"), "9: pod-init wait tcp://db:5432 --timeout=9s"),
        Case("timeout", init(("timeout", "60", "sh", "-c", "until nc -z db 5432; do sleep 1; done")), "2: pod-init wait tcp://db:5432 --timeout=1m"),
        Case("timeout of busybox", init(("timeout", "-t", "30", "sh", "-c", "until nc -z db 5432; do sleep 1; done")), "2: pod-init wait tcp://db:5432 --timeout=30s"),
        Case("timeout in the script", init("timeout 2m sh -c 'until nc -z db 5432; do sleep 1; done' || exit 1"), "2: pod-init wait tcp://db:5432 --timeout=2m"),
        Case("timeout in the script, in silence", init("timeout 2m sh -c 'until nc -z db 5432; do sleep 1; done'; echo on"), "partial 2"),
        Case("a file", init("while [ ! -f /shared/ready ]; do sleep 1; done"), "10: pod-init wait file:///shared/ready --timeout=5m"),
        Case("a file with something in it", init("until [ -s /shared/token ]; do echo -n .; sleep 1; done"), "10: pod-init wait file:///shared/token?nonempty --timeout=5m"),
        Case("two files", init("until [ -e /shared/a ] && test -e /shared/b; do sleep 1; done"), "10: pod-init wait file:///shared/a file:///shared/b --timeout=5m"),
        Case("a file that goes away", init("while [ -e /shared/lock ]; do sleep 1; done"), "10: pod-init wait not:file:///shared/lock --timeout=5m"),
        Case("a relative file", init("until [ -f shared/ready ]; do sleep 1; done"), "10: pod-init wait file:///shared/ready --timeout=5m"),
        Case("a relative file in an unknown image", init("until [ -f ready ]; do sleep 1; done", "example/shop"), "partial 10"),
        Case("a relative file in a known directory", init("until [ -f ready ]; do sleep 1; done", "example/shop", working_dir="/shared"), "10: pod-init wait file:///shared/ready --timeout=5m"),
        Case("a file by ls", init("until ls /shared/ready; do sleep 1; done"), "10: pod-init wait file:///shared/ready --timeout=5m"),
        Case("a word in a file", init("until grep -q done /shared/state; do sleep 1; done"), "10: pod-init wait file:///shared/state?contains=done --timeout=5m"),
        Case("a file of its own image", init("until [ -f /etc/shop.conf ]; do sleep 1; done"), "partial 10"),
        Case("a file of the service account", init("until [ -f /var/run/secrets/kubernetes.io/serviceaccount/token ]; do sleep 1; done"), "10: pod-init wait file:///var/run/secrets/kubernetes.io/serviceaccount/token --timeout=5m"),
        Case("a glob of files", init("until [ -f /shared/*.ok ]; do sleep 1; done"), "partial 10"),
        Case("wait-for-it", init("./wait-for-it.sh db:5432 -t 30", "example/shop"), "2: pod-init wait tcp://db:5432 --timeout=30s"),
        Case("wait-for-it without end", init(("/wait-for-it.sh", "-h", "db", "-p", "5432", "--timeout=0")), "2: pod-init wait tcp://db:5432 --timeout=5m"),
        Case("wait-for-it before the application", alone(("./wait-for-it.sh", "db:5432", "--", "./shop")), "partial 2"),
        Case("dockerize", init("dockerize -wait tcp://db:5432 -wait http://api/up -timeout 1m", "example/shop"), "2: pod-init wait tcp://db:5432 http://api/up --timeout=1m"),
        Case("dockerize with a template", alone("dockerize -wait tcp://db:5432 -template /a:/b ./shop"), "partial 2"),
        Case("a sleep", init("sleep 30"), "native 11"),
        Case("a sleep that says so", init("echo one moment; sleep 1m; echo done"), "native 11"),
        Case("a sleep before the application", alone("sleep 20 && exec ./shop"), "partial 11"),
        Case("a sleep after the start", alone("./shop & sleep 20; curl http://localhost/warm-up; wait"), ""),
        Case("a wait in the application", alone(loop.format("nc -z db 5432") + " && exec ./shop"), "partial 2"),
        Case("a wait in the application with exec", side(loop.format("nc -z db 5432") + "\nexec ./shop", "example/shop"), "partial 2"),
        Case("a wait beside the application", side(loop.format("nc -z db 5432")), "partial 2"),
    ]  # fmt: skip


def _logs() -> list[Case]:
    """Rows 12 to 15."""
    return [
        Case("tail -f", side("tail -n +1 -f /logs/app.log"), "12: log-tailer /logs/app.log"),
        Case("tail without a shell", side(("tail", "-f", "/logs/app.log")), "12: log-tailer /logs/app.log"),
        Case("tail from the end", side(("tail", "-n0", "-F", "/logs/app.log")), "13: log-tailer /logs/app.log --from=end"),
        Case("tail -F", side(("/usr/bin/tail", "-F", "-n", "100", "/logs/app.log")), "13: log-tailer /logs/app.log"),
        Case("tail by stdbuf", side("exec stdbuf -oL tail -F /logs/app.log 2>/dev/null"), "13: log-tailer /logs/app.log"),
        Case("tail --follow=name", side("tail --follow=name --retry /logs/app.log"), "13: log-tailer /logs/app.log"),
        Case("tail of a glob", side("tail -f /logs/*.log"), "13: log-tailer /logs/*.log --label=name"),
        Case("tail of two", side("tail -f /logs/a/out.log /logs/b/out.log"), "12: log-tailer /logs/a/out.log /logs/b/out.log --label=path"),
        Case("tail of two without headers", side("tail -qF /logs/a.log /logs/b.log"), "13: log-tailer /logs/a.log /logs/b.log"),
        Case("tails in the background", side("tail -F /logs/a.log & tail -F /logs/b.log & wait"), "13: log-tailer /logs/a.log /logs/b.log"),
        Case("tails of two kinds", side("tail -F /logs/a.log & tail -n 0 -F /logs/b.log & wait"), "partial 13"),
        Case("tail of a variable", side('tail -F "/logs/$NAME.log"', env={"NAME": "app"}), "13: log-tailer /logs/$(NAME).log"),
        Case("tail that ends", side("tail /logs/app.log", "alpine:latest"), "12: log-tailer /logs/app.log"),
        Case("tail once the file is there", side("while [ ! -f /logs/app.log ]; do sleep 1; done; tail -F /logs/app.log"), "13: log-tailer /logs/app.log"),
        Case("tail of a file that it makes", side("touch /logs/app.log && exec tail -F /logs/app.log"), "13: log-tailer /logs/app.log"),
        Case("tail with traps", side("trap 'exit 0' TERM INT; set -eu; tail -F /logs/app.log & wait $!"), "13: log-tailer /logs/app.log"),
        Case("tail if it is there", side("[ -f /logs/app.log ] && tail -F /logs/app.log"), "13: log-tailer /logs/app.log"),
        Case("tail and grep", side("tail -F /logs/app.log | grep -v DEBUG"), "partial 13"),
        Case("tail to stderr", side("tail -F /logs/app.log >&2"), "partial 13"),
        Case("tail to process 1", side("tail -F /logs/app.log > /proc/1/fd/1"), "13: log-tailer /logs/app.log"),
        Case("tail of bytes", side("tail -c +1 -f /logs/app.log"), "partial 12"),
        Case("tail on no volume", side("tail -F /var/log/other.log"), "partial 13"),
        Case("tail after something else", side("./rotate & tail -F /logs/app.log"), "partial 13"),
        Case("tail with an end", side(("timeout", "1h", "tail", "-F", "/logs/app.log")), "partial 13"),
        Case("tail in an init container", init("tail -f /logs/app.log"), "partial 12"),
        Case("the end of a file in an init container", init("tail /logs/app.log"), ""),
        Case("tail as the only container", alone("tail -F /logs/syslog", "busybox"), "13: log-tailer /logs/syslog"),
        Case("a server and its log", alone("service nginx start && tail -f /logs/access.log", "nginx"), ""),
        Case("cat in a loop", side("while true; do cat /logs/access.log; sleep 30; done"), "14: log-tailer /logs/access.log"),
        Case("cat in a loop of sleep", side("while sleep 5; do cat /logs/access.log 2>/dev/null; done"), "14: log-tailer /logs/access.log"),
        Case("cat when it is there", side("while :; do if [ -f /logs/a.log ]; then cat /logs/a.log; fi; sleep 9; done"), "14: log-tailer /logs/a.log"),
        Case("tail in a loop", side("while true; do tail -n 50 /logs/access.log; sleep 10; done"), "14: log-tailer /logs/access.log"),
        Case("watch", side(("watch", "-n", "10", "cat", "/logs/access.log")), "14: log-tailer /logs/access.log"),
        Case("cat in a group", side("while true; do { cat /logs/a.log; cat /logs/b.log; }; sleep 9; done"), "14: log-tailer /logs/a.log /logs/b.log --label=name"),
        Case("cat and empty", side("while true; do cat /logs/a.log; > /logs/a.log; sleep 9; done"), "partial 14"),
        Case("cat of the kernel's figures", side("while true; do cat /proc/loadavg; sleep 9; done"), ""),
        Case("cat to a server", side("while true; do cat /logs/a.log | nc sink 99; sleep 9; done"), ""),
        Case("a server of nc", side("while true; do nc -l -p 8080 -e cat /logs/a.log; done"), "partial 15"),
        Case("a server of nc with an echo", side("while true; do echo 'HTTP/1.1 200 OK' | nc -lp 8080; done"), "partial 15"),
        Case("a server of files", side("httpd -f -p 8080 -h /data"), "refuse 15"),
        Case("a server of files as the application", alone("httpd -f -p 8080 -h /data", "busybox"), ""),
    ]  # fmt: skip


def _files() -> list[Case]:
    """Rows 16 to 19 and 25 to 29."""
    jar = "https://dl.example/driver.jar"
    tgz = "https://dl.example/site.tgz"
    return [
        Case("cp of a model", init("cp /usr/src/model/* /data", "example/model:1.0"), "native 16"),
        Case("cp of a model on an older cluster", init("cp -r /usr/src/model/. /data", "example/model:1.0", target=(1, 34)), "partial 16"),
        Case("cp out of busybox", init("cp /bin/busybox /data"), "partial 16"),
        Case("cp of a directory", init("cp -r /config/. /data"), "16: pod-init copy /config /data"),
        Case("cp of what a glob finds", init("cp /config/* /data/"), "16: pod-init copy /config /data --links=follow --exclude=..*"),
        Case("cp of jars", init("cp -a /shared/*.jar /data/lib", "eclipse-temurin:21"), "partial 16"),
        Case("cp of a directory into one", init(("cp", "-r", "/shared/site", "/data")), "16: pod-init copy /shared/site /data/site"),
        Case("cp of a file", init("cp /config/app.yaml /data/app.yaml"), "16: pod-init copy /config/app.yaml /data/app.yaml"),
        Case("cp of two files", init("cp /config/a /config/b /data"), "16: pod-init copy /config/a /data/ | pod-init copy /config/b /data/"),
        Case("cp that keeps what is there", init("cp -rn /shared/. /data"), "partial 16"),
        Case("cp whose failure is none", init("cp -r /shared/. /data || true"), "partial 16"),
        Case("cp to nowhere", init("cp /config/app.yaml /etc/app.yaml"), "partial 16"),
        Case("cp to a volume that is read only", init("cp /shared/a /config/a"), "partial 16"),
        Case("cp under a condition", init("[ -f /data/a ] || cp /shared/a /data/a"), "partial 16"),
        Case("cp if it is not there", init("[ ! -f /data/a ] && cp /shared/a /data/a"), "partial 16"),
        Case("cp after a look", init("ls /shared/a || exit 0; cp /shared/a /data/a"), "partial 16"),
        Case("cp unless it is done", init("if [ -f /data/done ]; then exit 0; fi; cp -r /shared/. /data"), "partial 16"),
        Case("rsync", init("rsync -a --delete /shared/ /data/", "example/rsync"), "16: pod-init copy /shared /data --mirror"),
        Case("rsync of a directory", init("rsync -a /shared/site /data", "example/rsync"), "16: pod-init copy /shared/site /data/site"),
        Case("rsync from a server", init("rsync -a host:/shared /data", "example/rsync"), ""),
        Case("cp in the application", alone("cp /defaults/* /data/; exec ./shop"), ""),
        Case("mkdir", init("mkdir -p /data/cache /data/logs"), "17: pod-init mkdir /data/cache /data/logs --mode=2775"),
        Case("mkdir by a relative path", init('sleep 5 && echo "a directory" && mkdir -p data/log', "alpine"), "17: pod-init mkdir /data/log --mode=2775"),
        Case("mkdir with a mode", init("mkdir -p -m 0750 /data/cache"), "17: pod-init mkdir /data/cache --mode=0750"),
        Case("mkdir unless it is there", init("[ -d /data/c ] || mkdir -p /data/c"), "17: pod-init mkdir /data/c --mode=2775"),
        Case("mkdir if it is not there", init("if [ ! -d /data/c ]; then mkdir -p /data/c; fi"), "17: pod-init mkdir /data/c --mode=2775"),
        Case("mkdir and chmod", init("mkdir -p /data/c && chmod 777 /data/c"), "17: pod-init mkdir /data/c --mode=0777"),
        Case("mkdir and mkdir", init("mkdir -p /data/a; mkdir -p /data/b"), "17: pod-init mkdir /data/a /data/b --mode=2775"),
        Case("mkdir and chmod of one", init("mkdir -p /data/a /data/b && chmod 700 /data/a"), "partial 17"),
        Case("mkdir and chown", init("mkdir -p /data/c && chown -R 1000:1000 /data/c"), "partial 17"),
        Case("mkdir of braces", init(("bash", "-c", "mkdir -p /data/{a,b}"), "bash:5"), "partial 17"),
        Case("mkdir in the application", alone("mkdir -p /data/c && exec ./shop"), ""),
        Case("chown", init("chown -R 999:999 /data"), "native 17"),
        Case("chown in a form without a shell", init(("chown", "-R", "1000", "/data")), "native 17"),
        Case("chmod", init("chmod -R 777 /data"), "native 18"),
        Case("chown and chmod", init("chown -R 70:70 /data; chmod 700 /data"), "native 17"),
        Case("lost+found", init(("rm", "-rf", "/data/lost+found")), "native 19"),
        Case("rm of anything else", init("rm -rf /data/cache"), ""),
        Case("wget", init(f"wget -q -O /data/driver.jar {jar}"), f"25: pod-init fetch {jar} /data/driver.jar"),
        Case("wget into a directory", init(f"wget -P /data {jar}"), f"25: pod-init fetch {jar} /data/driver.jar"),
        Case("wget into the working directory", init(f"cd /data && wget {jar}"), f"25: pod-init fetch {jar} /data/driver.jar"),
        Case("curl", init(f"curl -fsSL {jar} -o /data/driver.jar && chmod +x /data/driver.jar", "curlimages/curl"), f"25: pod-init fetch {jar} /data/driver.jar --mode=0755"),
        Case("curl to stdout", init(f"curl -sL {jar} > /data/driver.jar", "curlimages/curl"), f"25: pod-init fetch {jar} /data/driver.jar"),
        Case("curl with a header", init(f"curl -H 'A: b' {jar} -o /data/driver.jar", "curlimages/curl"), "partial 25"),
        Case("curl without a check", init(f"curl -k {jar} -o /data/driver.jar", "curlimages/curl"), "partial 25"),
        Case("curl -O", init(f"curl -fsSLO --output-dir /data {jar}", "curlimages/curl"), f"25: pod-init fetch {jar} /data/driver.jar"),
        Case("wget without a scheme", init("wget -O /data/a dl.example/a"), "25: pod-init fetch http://dl.example/a /data/a"),
        Case("wget by ftp", init("wget -O /data/a ftp://dl.example/a"), "partial 25"),
        Case("wget with a login", init("wget -O /data/a https://u:p@dl.example/a"), "partial 25"),
        Case("curl to nowhere", init(f"curl {jar} -o /opt/driver.jar", "curlimages/curl"), "partial 25"),
        Case("curl to a shell", init("curl -s https://get.example | sh", "curlimages/curl"), ""),
        Case("tar by a pipe", init(f"wget -O- {tgz} | tar xz -C /data"), f"26: pod-init fetch {tgz} /data --extract"),
        Case("tar of a file", init(f"cd /tmp; wget {tgz}; tar -xzf site.tgz -C /data --strip-components=1; rm site.tgz"), f"26: pod-init fetch {tgz} /data --extract --strip-components=1"),
        Case("unzip", init("wget https://dl.example/a.zip -O /tmp/a.zip && unzip -o /tmp/a.zip -d /data"), "26: pod-init fetch https://dl.example/a.zip /data --extract"),
        Case("tar of a part", init(f"wget -O- {tgz} | tar xz -C /data docs"), "partial 26"),
        Case("tar of what is there", init("tar xzf /shared/a.tgz -C /data"), ""),
        Case("envsubst", init("envsubst '$DB_HOST ${DB_PORT}' < /config/app.tpl > /data/app.conf", "example/gettext"), "27: pod-init render /config/app.tpl:/data/app.conf --vars=DB_HOST,DB_PORT --mode=0644"),
        Case("envsubst of everything", init("cat /config/a | envsubst > /data/a", "example/gettext", env={"B": "1", "A": None}), "27: pod-init render /config/a:/data/a --vars=A,B --mode=0644"),
        Case("envsubst of a template in the image", init("envsubst '$DB_HOST' < /etc/app.tpl > /data/app.conf", "example/app"), "partial 27"),
        Case("envsubst of envFrom", init("envsubst < /config/a > /data/a", "example/gettext", env_from=True), "partial 27"),
        Case("envsubst of nothing", init("envsubst < /config/a > /data/a", "example/gettext", env={}), "partial 27"),
        Case("envsubst in the application", alone("envsubst < /config/a > /data/a && exec nginx -g 'daemon off;'", "nginx"), "partial 27"),
        Case("sed", init('sed -i "s/TOKEN/$PASSWORD/" /data/app.conf'), "partial 28"),
        Case("echo of a secret", init('echo "$KEY" > /data/key; chmod 600 /data/key'), "29: pod-init write /data/key --from-env=KEY --newline --mode=0600"),
        Case("base64", init("echo $KEY | base64 -d > /data/key"), "29: pod-init write /data/key --from-env=KEY --base64 --mode=0644"),
        Case("echo of a text", init("echo on > /data/mode"), "29: pod-init write /data/mode --text=on --newline --mode=0644"),
        Case("base64 of a word", init(("bash", "-c", 'base64 -d <<< "$KEY" > /data/key'), "bash:5"), "29: pod-init write /data/key --from-env=KEY --base64 --mode=0644"),
        Case("printenv", init("printenv KEY > /data/key"), "29: pod-init write /data/key --from-env=KEY --newline --mode=0644"),
        Case("echo -n", init('echo -n "$KEY" > /data/key'), "29: pod-init write /data/key --from-env=KEY --mode=0644"),
        Case("echo of a backslash", init("echo 'a\\nb' > /data/a"), "partial 29"),
        Case("printf of a text", init("printf 'a\\nb\\n' > /data/a"), "29: pod-init write /data/a --text=a\nb\n --mode=0644"),
        Case("printf of a form", init("printf '%d' 5 > /data/a"), ""),
        Case("printf", init("printf '%s' \"$KEY\" > /data/key"), "29: pod-init write /data/key --from-env=KEY --mode=0644"),
        Case("a here-document", init("cat <<EOF > /data/app.conf\nhost $DB_HOST\nEOF\n"), "29: pod-init write /data/app.conf --text=host $(DB_HOST)\n --mode=0644"),
        Case("a here-document as it is", init("cat > /data/app.conf <<'EOF'\nhost $DB_HOST $(date)\nEOF\n"), "29: pod-init write /data/app.conf --text=host $DB_HOST $$(date)\n --mode=0644"),
        Case("a here-document with a secret", init("cat <<EOF > /data/app.conf\npassword $PASSWORD\nEOF\n"), "partial 29"),
        Case("echo at the end of a file", init("echo on >> /data/mode"), ""),
        Case("echo in the application's place", side("echo log > /logs/app.log", "alpine"), ""),
    ]  # fmt: skip


def _others() -> list[Case]:
    """Rows 20 to 24 and 30 to 38."""
    url = "https://git.example/team/site.git"
    aws = "amazon/aws-cli"
    return [
        Case("git clone", init(f"git clone --depth 1 -b main {url} /git/site", "alpine/git"), f"20: pod-init-full fetch git+{url}?ref=main /git/site --keep-git"),
        Case("git clone to its own name", init(f"cd /git && git clone {url}", "alpine/git"), f"20: pod-init-full fetch git+{url} /git/site --keep-git"),
        Case("git clone after rm", init(f"rm -rf /git/site; git clone {url} /git/site", "alpine/git"), f"20: pod-init-full fetch git+{url} /git/site --keep-git"),
        Case("git clone or pull", init(f"if [ -d /git/site/.git ]; then cd /git/site && git pull; else git clone {url} /git/site; fi", "alpine/git"), f"20: pod-init-full fetch git+{url} /git/site --keep-git"),
        Case("git clone with a token", init("git clone https://bot:$PASSWORD@git.example/site.git /git/site", "alpine/git"), "partial 20"),
        Case("git clone by ssh", init("git clone git@git.example:team/site.git /git/site", "alpine/git"), "partial 20"),
        Case("git clone with a login in a variable", init(f"git clone {url} /git/site", "alpine/git", env={"GIT_ASKPASS": "/config/ask"}), "partial 20"),
        Case("git clone with submodules", init(f"git clone --recursive {url} /git/site", "alpine/git"), "partial 20"),
        Case("git clone and a build", init(f"git clone {url} /git/site && make -C /git/site", "alpine/git"), "partial 20"),
        Case("git pull", side("while true; do git pull; sleep 30; done", "alpine/git", working_dir="/git/site"), "partial 21"),
        Case("git clone and pull", side(f"git clone -b main {url} /git/site; cd /git/site; while true; do git pull; sleep 30; done", "alpine/git"), f"21: git-syncer --repo={url} --ref=main --root=/git --link=site --period=30s --max-failures=-1"),
        Case("git clone and pull -C", side(f"git clone {url} /git/site && while sleep 60; do git -C /git/site fetch && git -C /git/site reset --hard @{{u}}; done", "alpine/git"), f"21: git-syncer --repo={url} --root=/git --link=site --period=1m --max-failures=-1"),
        Case("git clone into the volume", side(f"git clone {url} /git; cd /git; while true; do git pull; sleep 30; done", "alpine/git"), "partial 21"),
        Case("git pull and a build", side("while true; do git pull && make; sleep 30; done", "alpine/git", working_dir="/git/site"), "partial 21"),
        Case("aws s3 sync", init(("aws", "s3", "sync", "s3://models/v3", "/data", "--no-sign-request"), aws), "22: pod-init-full fetch s3://models/v3/ /data --anonymous"),
        Case("aws s3 cp", init("aws --region eu-west-1 s3 cp s3://models/$NAME /data/model", aws, env={"NAME": "m"}), "22: pod-init-full fetch s3://models/$(NAME) /data/model --region=eu-west-1"),
        Case("aws s3 cp whose failure is said", init("aws s3 cp --recursive s3://models/v3 /data || echo failed", aws), "partial 22"),
        Case("aws s3 with a choice", init("aws s3 sync s3://models/v3 /data --exclude '*.tmp'", aws), "partial 22"),
        Case("aws s3 to a bucket", init("aws s3 cp /data/a s3://backup/a", aws), "refuse 22"),
        Case("aws s3 in a loop, logs", side("while true; do aws s3 sync /logs s3://logs/app; sleep 60; done", aws), "partial 23"),
        Case("aws s3 in a loop, down", side("while true; do aws s3 sync s3://site/www /data; sleep 60; done", aws), "refuse 23"),
        Case("mc mirror", side(("mc", "mirror", "--watch", "/data", "store/backup"), "minio/mc"), "refuse 24"),
        Case("socat", side(("socat", "TCP-LISTEN:5432,fork,reuseaddr", "TCP:db:5432"), "alpine/socat"), "30: ambassador *:5432=tcp://db:5432"),
        Case("socat on loopback", side("socat -d TCP4-LISTEN:5432,bind=127.0.0.1,fork TCP4:$DB_HOST:$DB_PORT", "alpine/socat"), "30: ambassador :5432=tcp://$(DB_HOST):$(DB_PORT)"),
        Case("socat with TLS", side("socat tcp-listen:6379,fork openssl:cache:6380,verify=0", "alpine/socat"), "30: ambassador *:6379=tls://cache:6380?verify=off"),
        Case("socat twice", side("socat TCP-LISTEN:8001,fork TCP:a:1 & socat TCP-LISTEN:8002,fork TCP:b:2 & wait", "alpine/socat"), "30: ambassador *:8001=tcp://a:1 *:8002=tcp://b:2"),
        Case("socat in a loop", side("while true; do socat TCP-LISTEN:8001,fork TCP:a:1; sleep 1; done", "alpine/socat"), "30: ambassador *:8001=tcp://a:1"),
        Case("socat to a socket", side("socat TCP-LISTEN:2375,fork UNIX-CONNECT:/shared/docker.sock", "alpine/socat"), "30: ambassador *:2375=unix:///shared/docker.sock"),
        Case("socat from a socket", side("socat UNIX-LISTEN:/shared/db.sock,fork TCP:db:5432", "alpine/socat"), "30: ambassador unix:///shared/db.sock=tcp://db:5432"),
        Case("socat as the only container", alone("socat TCP-LISTEN:8001,fork TCP:a:1", "alpine/socat"), "30: ambassador *:8001=tcp://a:1"),
        Case("socat on a low port", side("socat TCP-LISTEN:80,fork TCP:a:80", "alpine/socat"), "partial 30"),
        Case("socat by UDP", side("socat UDP-LISTEN:53,fork UDP:dns:53", "alpine/socat"), ""),
        Case("socat with words of its own", side("socat TCP-LISTEN:1,fork,tcpwrap=x TCP:a:1", "alpine/socat"), "partial 30"),
        Case("nc that passes on", side("while true; do nc -l -p 5432 -e 'nc db 5432'; done"), "partial 30"),
        Case("inotifywait", side("while inotifywait -e modify /config; do nginx -s reload; done"), "refuse 31"),
        Case("inotifywait in a loop", side("while true; do inotifywait -e create /config/..data; kill -HUP 1; done"), "refuse 31"),
        Case("a backup", alone("while true; do pg_dump shop > /data/shop.sql; sleep 86400; done", "postgres:16"), "refuse 32"),
        Case("a backup that is no loop", alone("pg_dump shop > /data/shop.sql", "postgres:16"), ""),
        Case("old files", side("while true; do find /logs -mtime +7 -delete; sleep 3600; done"), "refuse 33"),
        Case("logrotate", side("crond -f"), "refuse 33"),
        Case("cron as the application", alone("crond -f", "example/cron"), ""),
        Case("a file that says the end", side("until [ -f /shared/terminated ]; do sleep 1; done; kill $(pidof agent)", "example/agent"), "native 34"),
        Case("a file that says the end, before native sidecars", side("until [ -f /shared/terminated ]; do sleep 1; done; pkill agent", target=(1, 27)), "partial 34"),
        Case("a kill of nobody knows whom", side("./agent & kill $!"), ""),
        Case("quitquitquit", alone("./job; curl -sf -XPOST http://localhost:15020/quitquitquit"), "native 34"),
        Case("quitquitquit as a step", init("curl -X POST http://127.0.0.1:15020/quitquitquit", "curlimages/curl"), "34: pod-init quit istio"),
        Case("sysctl", init(("sysctl", "-w", "vm.max_map_count=262144")), "refuse 35"),
        Case("sysctl and chown", init("sysctl -w vm.max_map_count=262144 && chown -R 1000 /data"), "refuse 35"),
        Case("a kernel's setting by echo", init("echo never > /proc/sys/vm/overcommit_memory"), "refuse 35"),
        Case("sleep infinity", side(("sleep", "infinity"), mounts=()), "36: pod-init pause"),
        Case("tail of nothing", side("tail -f /dev/null", "alpine", mounts=()), "36: pod-init pause"),
        Case("an endless sleep", side("while true; do sleep 3600; done", mounts=()), "36: pod-init pause"),
        Case("an endless sleep with a trap", side("trap : TERM INT; sleep infinity & wait", mounts=()), "36: pod-init pause"),
        Case("sleep infinity with tools", side("sleep infinity", "nicolaka/netshoot", mounts=()), "partial 36"),
        Case("sleep infinity with a volume", side("sleep infinity"), ""),
        Case("the application that only sleeps", alone("echo up && sleep infinity", "alpine"), ""),
        Case("the application beside git-sync", side("sleep infinity", others=("registry.k8s.io/git-sync/git-sync:v4.2.1",), mounts=()), ""),
        Case("the application that sleeps for an hour", side("echo The application runs && sleep 3600"), ""),
        Case("openssl", init("openssl req -x509 -newkey rsa:2048 -nodes -keyout /data/k -out /data/c", "alpine/openssl"), "refuse 37"),
        Case("keytool", init("keytool -import -alias ca -file /config/ca.crt -keystore /data/ts", "eclipse-temurin:21"), "refuse 37"),
        Case("a producer", alone("while true; do date >> /logs/app.log; sleep 1; done", "busybox"), "refuse 38"),
        Case("a producer beside an adapter", side("while true; do echo $(date -u)'#a line' >> /logs/f.log; sleep 5;done"), "refuse 38"),
        Case("a producer by tee", side("while true; do date | tee -a /logs/f.log; sleep 5;done"), "refuse 38"),
        Case("a producer that counts", side('i=0; while true; do echo "$i" >> /logs/1.log; i=$((i+1)); sleep 1; done'), "refuse 38"),
        Case("a producer with an end", side("for i in $(seq 100); do echo $i >> /logs/1.log; done"), "refuse 38"),
    ]  # fmt: skip


def _shapes() -> list[Case]:
    """The ways to call a shell, and what only looks like a loop."""
    until = "until nc -z db 5432; do sleep 1; done"
    done = "2: pod-init wait tcp://db:5432 --timeout=5m"
    folded = "until nc -z db 5432; do echo waiting; sleep 2; done; echo there\n"
    mashed = "until nc -z db 5432 do echo waiting sleep 2 done"
    block = "#!/bin/sh\nset -euo pipefail\n\n# the database first\nuntil nc -z db 5432\ndo\n  echo 'not yet'\n  sleep 1\ndone\n"

    def args(*words: str, command: tuple[str, ...] = (), image: str = "busybox") -> Container:
        return init(command, image, args=words)

    return [
        Case("sh, then args", args("-c", until, command=("/bin/sh",)), done),
        Case("sh -c, then args", args(until, command=("/bin/sh", "-c")), done),
        Case("args alone", args("/bin/sh", "-c", until), done),
        Case("args alone for an image with an entrypoint", args("bash", "-c", until, image="postgres:16"), done),
        Case("args of an entrypoint that nobody knows", args("nc", "-z", "db", "5432", image="example/tools"), ""),
        Case("bash -ec", init(("bash", "-ec", until)), done),
        Case("bash -lc", init(("/bin/bash", "-lc", until)), done),
        Case("bash -exc", init(("bash", "-exc", until)), done),
        Case("bash -euo pipefail -c", init(("bash", "-euo", "pipefail", "-c", until)), done),
        Case("ash in busybox", init(("/bin/busybox", "ash", "-c", until)), done),
        Case("tini", init(("/sbin/tini", "--", "sh", "-c", until)), done),
        Case("env", init(("/usr/bin/env", "A=b", "bash", "-c", until)), done),
        Case("arguments of the script", init(("sh", "-c", "until nc -z $1 $2; do sleep 1; done", "wait", "db", "5432")), done),
        Case("sh in sh", init('sh -c "until nc -z db 5432; do sleep 1; done"'), done),
        Case("a folded script", init(folded), done),
        Case("a folded script whose lines became one", init(mashed), ""),
        Case("a block", init(block), done),
        Case("a block of Windows", init("until nc -z db 5432; do\r\n sleep 1\r\ndone\r\n"), ""),
        Case("an emptied script", init(""), ""),
        Case("a script in a file", init(("sh", "/scripts/wait.sh")), ""),
        Case("a shell alone", init(("sh",)), ""),
        Case("a script as one word", init((f"sh -c {until}",)), ""),
        Case("no command", init(()), ""),
        Case("a compose file", init(until, expands=False), done),
        Case("a compose file's own variables", init("until nc -z $DB_HOST $DB_PORT; do sleep 1; done", expands=False), done),
        Case("a compose file's secrets", init("until nc -z $KEY 1; do sleep 1; done", expands=False), "partial 2"),
        Case("a template around a statement", init("{{ if .Values.wait }}" + until + "{{ end }}"), ""),
        Case("a template in a message", init("until nc -z db 5432; do echo {{ .Release.Name }} waits; sleep 1; done"), done),
        Case("our own image", init(("pod-init", "wait", "tcp://db:5432"), "sidecars/pod-init:0.1.0"), ""),
        Case("our own image elsewhere", side(("tail", "-F", "/logs/a"), "registry.example/x/log-tailer:latest-debug"), ""),
        Case("a loop that says hello", side("while true; do echo hello; sleep 5; done"), ""),
        Case("a loop that works", alone("while true; do ./worker --once; sleep 5; done"), ""),
        Case("a loop over jobs", init("for f in /config/*.sql; do psql -f $f; done", "postgres:16"), ""),
        Case("a loop that reads", alone("while read line; do echo $line; done < /config/list", "busybox"), ""),
        Case("a loop with its own nc", init("nc() { return 0; }; until nc -z db 5432; do sleep 1; done"), "partial 2"),
        Case("a loop that restarts the application", alone("until ./shop; do echo again; sleep 1; done"), ""),
        Case("a loop that probes the application", side("while true; do curl -s http://localhost:8080/cron; sleep 60; done", "curlimages/curl"), ""),
        Case("an application", alone("exec java -jar /app.jar", "eclipse-temurin:21"), ""),
        Case("a server", alone(("nginx", "-g", "daemon off;"), "nginx"), ""),
        Case("a reload by the clock", alone("while :; do sleep 6h & wait $!; nginx -s reload; done & nginx -g 'daemon off;'", "nginx"), ""),
        Case("a word that is tail", alone("echo tail -f /logs/a.log; exec ./shop"), ""),
        Case("a comment", alone("# until nc -z db 5432; do sleep 1; done\nexec ./shop"), ""),
        Case("a loop in quotes", alone("exec ./shop --hook 'until nc -z db 5432; do sleep 1; done'"), ""),
        Case("a variable that the script may have changed", init('[ -z "$DB_HOST" ] && DB_HOST=other; until nc -z $DB_HOST 1; do sleep 1; done'), "partial 2"),
        Case("a variable of a function", init("f() { DB_HOST=x; }; f; until nc -z $DB_HOST 1; do sleep 1; done"), "partial 2"),
        Case("what stands behind an exit", init(f"echo no; exit 0; {until}"), ""),
        Case("positional words that are set", init("set -- db 5432; until nc -z $1 $2; do sleep 1; done"), "partial 2"),
    ]  # fmt: skip


CASES = [*_waits(), *_logs(), *_files(), *_others(), *_shapes()]
