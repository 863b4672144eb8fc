"""Pods that have what a rule finds, and pods that look like it and have it not."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """A manifest, and what one rule says of it.

    line  where; 0: nothing is found
    says  a part of the message
    """

    rule: str
    name: str
    text: str
    line: int = 0
    says: str = ""
    target: tuple[int, int] = (1, 37)

    def __str__(self) -> str:
        return f"{self.rule}: {self.name}"


HEAD = """\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec:
"""
CONTAINERS = HEAD + "  containers:\n"
SERVICE = """\
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}}
"""


def image(name: str) -> str:
    return f"{CONTAINERS}  - name: app\n    image: {name}\n"


def job(text: str) -> str:
    """A Job whose pod has these lines, which begin at line 8."""
    body = "".join(f"      {line}\n" for line in text.splitlines())
    head = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: work}\nspec:\n  template:\n    spec:\n"
    return f"{head}      restartPolicy: Never\n{body}"


def waiting(word: str, beside: str = SERVICE) -> str:
    return f"""{HEAD}  initContainers:
  - name: wait
    image: sidecars/pod-init:0.1.0
    args: [wait, "{word}", --timeout=5m]
  containers:
  - {{name: app, image: "app:1"}}
{beside}"""


def reading(mount: str, volume: str = "emptyDir: {}", app: str = "{name: logs, mountPath: /var/log/app}") -> str:
    return f"""{CONTAINERS}  - name: app
    image: app:1
    volumeMounts: [{app}]
  - name: logs
    image: sidecars/log-tailer:0.1.0
    args: [/logs/app.log, --label=name]
    volumeMounts:
    - {mount}
  volumes: [{{name: logs, {volume}}}, {{name: other, emptyDir: {{}}}}]
"""


def sidecar(more: str, image: str = "proxy:1") -> str:
    return f"""{HEAD}  initContainers:
  - name: helper
    image: {image}
    restartPolicy: Always
    {more}
  containers:
  - name: app
    image: app:1
    volumeMounts: [{{name: site, mountPath: /site, readOnly: true}}]
  volumes: [{{name: site, emptyDir: {{}}}}]
"""


def commanded(line: str) -> str:
    return f"{CONTAINERS}  - name: app\n    image: app:1\n    {line}\n"


def probing(line: str) -> str:
    return f"{CONTAINERS}  - name: app\n    image: app:1\n    {line}\n{SERVICE}"


def stopping(hook: str, grace: str = "", image: str = "app:1", args: str = "[]") -> str:
    return f"""{HEAD}  dnsPolicy: ClusterFirst
  {grace or "hostNetwork: false"}
  containers:
  - name: app
    image: {image}
    args: {args}
    lifecycle: {{preStop: {hook}}}
"""


def resolving(policy: str, line: str) -> str:
    return f"{HEAD}  {policy}\n  containers:\n  - name: app\n    image: app:1\n    {line}\n{SERVICE}"


def reloading(mount: str, watcher: str) -> str:
    return f"""{CONTAINERS}  - name: app
    image: nginx:1.29
    volumeMounts:
    - {mount}
  - {watcher}
  volumes: [{{name: conf, configMap: {{name: nginx}}}}, {{name: data, emptyDir: {{}}}}]
"""


TAIL = '- {name: tail, image: "busybox:1.37", command: [sh, -c, "tail -n+1 -F /logs/app.log"]}'
RELOADER = '{name: reloader, image: "ghcr.io/jimmidyson/configmap-reload:v0.15.0"}'

CASES = [
    Case("untagged-image", "none", image("nginx"), 7, "means nginx:latest"),
    Case("untagged-image", "latest", image("registry:5000/shop/web:latest"), 7, "is registry:5000/shop/web:latest"),
    Case("untagged-image", "a registry with a port", image("registry:5000/shop/web"), 7, "web:latest"),
    Case("untagged-image", "a version", image("registry:5000/shop/web:1.2")),
    Case("untagged-image", "a digest", image("nginx@sha256:0123456789abcdef")),
    Case("untagged-image", "put in later", image('"${IMAGE}"')),
    Case("untagged-image", "no image, as in a patch", f"{CONTAINERS}  - name: app\n"),
    Case("old-busybox", "1.28", image("busybox:1.28"), 7, "take busybox:1.37"),
    Case("old-busybox", "with a registry and a variant", image("docker.io/library/busybox:1.31.1-musl"), 7, "1.31.1"),
    Case("old-busybox", "new", image("busybox:1.37")),
    Case("old-busybox", "another image of that version", image("mybusybox:1.28")),
    Case("frozen-registry", "k8s.gcr.io", image("k8s.gcr.io/pause:3.9"), 7, "take registry.k8s.io/pause:3.9"),
    Case("frozen-registry", "git-sync", image("k8s.gcr.io/git-sync:v4.2"), 7, "registry.k8s.io/git-sync/git-sync"),
    Case("frozen-registry", "the old one", image("gcr.io/google-containers/pause:3"), 7, "google-containers"),
    Case("frozen-registry", "the new one", image("registry.k8s.io/pause:3.9")),
    Case("frozen-registry", "another of that host", image("gcr.io/shop/web:1")),
    Case("bitnami-image", "on Docker Hub", image("bitnami/redis:7.2"), 7, "gone"),
    Case("bitnami-image", "in full", image("docker.io/bitnami/kubectl:1.30"), 7, "gone"),
    Case("bitnami-image", "legacy", image("bitnamilegacy/redis:7.2"), 7, "gets no fixes"),
    Case("bitnami-image", "a mirror", image("registry.example.com/bitnami/redis:7.2")),
    Case("endless-in-job", "log-tailer", job(
        'containers:\n- {name: work, image: "work:1"}\n'
        '- {name: logs, image: "sidecars/log-tailer:0.1.0", args: [/l/a]}'),
        10, "logs never ends, so this Job is never done; make it an init container"),
    Case("endless-in-job", "tail -F",
         job(f'containers:\n- {{name: work, image: "work:1"}}\n{TAIL}'), 10, "tail never ends"),
    Case("endless-in-job", "before native sidecars", job(f'containers:\n- {{name: work, image: "work:1"}}\n{TAIL}'),
         10, "--exit-on-file", (1, 27)),
    Case("endless-in-job", "a pod that is not started again",
         HEAD + '  restartPolicy: Never\n  containers:\n  - {name: work, image: "work:1"}\n'
         '  - {name: proxy, image: "sidecars/ambassador:0.1.0"}\n', 8, "pod with restartPolicy Never"),
    Case("endless-in-job", "native", job(
        'initContainers:\n- {name: logs, image: "sidecars/log-tailer:0.1.0", restartPolicy: Always, args: [/l/a]}\n'
        'containers:\n- {name: work, image: "work:1"}')),
    Case("endless-in-job", "it is told when to end", job(
        'containers:\n- {name: work, image: "work:1"}\n'
        '- {name: logs, image: "sidecars/log-tailer:0.1.0", args: [/l/a, --exit-on-file=/l/done]}')),
    Case("endless-in-job", "it ends by itself", job(
        'containers:\n- {name: work, image: "work:1"}\n'
        '- {name: logs, image: "sidecars/log-tailer:0.1.0", args: [/l/a, --once]}')),
    Case("endless-in-job", "it ends by itself, as a variable says", job(
        'containers:\n- {name: work, image: "work:1"}\n'
        '- {name: site, image: "sidecars/git-syncer:0.1.0", env: [{name: GITSYNC_ONE_TIME, value: "true"}]}')),
    Case("endless-in-job", "a Deployment's", CONTAINERS + '  - {name: work, image: "work:1"}\n  ' + TAIL + "\n"),
    Case("endless-in-job", "the work itself", job('containers:\n- {name: logs, image: "sidecars/log-tailer:0.1.0"}')),
    Case("sidecar-without-startup-probe", "a known proxy",
         sidecar("args: []", "sidecars/ambassador:0.1.0"), 6, "helper"),
    Case("sidecar-without-startup-probe", "one of our variants",
         sidecar("args: []", "sidecars/git-syncer-noshell:0.1.0"), 6, "helper"),
    Case("sidecar-without-startup-probe", "ports", sidecar("ports: [{containerPort: 5432}]"), 6, "startupProbe"),
    Case("sidecar-without-startup-probe", "it writes what the application reads",
         sidecar("volumeMounts: [{name: site, mountPath: /out}]"), 6, "startupProbe"),
    Case("sidecar-without-startup-probe", "it has one",
         sidecar("startupProbe: {tcpSocket: {port: 6380}}", "sidecars/ambassador:0.1.0")),
    Case("sidecar-without-startup-probe", "postStart waits",
         sidecar("lifecycle: {postStart: {exec: {command: [ready]}}}", "sidecars/ambassador:0.1.0")),
    Case("sidecar-without-startup-probe", "a port for whom looks from outside",
         sidecar("ports: [{containerPort: 9090, name: http-metrics}]")),
    Case("sidecar-without-startup-probe", "it reads what the application writes",
         sidecar("args: [/site/app.log]", "sidecars/log-tailer:0.1.0")),
    Case("sidecar-without-startup-probe", "an ordinary second container",
         CONTAINERS + '  - {name: app, image: "app:1"}\n  - {name: proxy, image: "sidecars/ambassador:0.1.0"}\n'),
    Case("sidecar-too-early", "1.28", sidecar("args: []"), 8, "for ever", (1, 28)),
    Case("sidecar-too-early", "1.29", sidecar("args: []"), target=(1, 29)),
    Case("sidecar-too-early", "an ordinary init container", waiting("tcp://db:5432", ""), target=(1, 27)),
    Case("short-grace", "as long as the sleep", stopping("{sleep: {seconds: 30}}"), 8, "30 s of preStop"),
    Case("short-grace", "in a shell", stopping("{exec: {command: [sh, -c, 'sleep 40 && nginx -s quit']}}"), 8, "40 s"),
    Case("short-grace", "with our drain", stopping("{sleep: {seconds: 10}}", image="sidecars/ambassador:0.1.0"),
         8, "10 s of preStop and 25 s to drain"),
    Case("short-grace", "with a drain that is told",
         stopping("{sleep: {seconds: 10}}", "terminationGracePeriodSeconds: 60", "sidecars/ambassador:0.1.0",
                  '["--grace", 55s]'), 6, "above 65"),
    Case("short-grace", "a native sidecar ends after the application",
         HEAD + "  terminationGracePeriodSeconds: 30\n  initContainers:\n"
         '  - {name: logs, image: "sidecars/log-tailer:0.1.0", restartPolicy: Always, args: [/l/a]}\n  containers:\n'
         '  - {name: app, image: "app:1", lifecycle: {preStop: {sleep: {seconds: 15}}}}\n', 5, "logs needs 15 s"),
    Case("short-grace", "long enough", stopping("{sleep: {seconds: 10}}", "terminationGracePeriodSeconds: 60",
         "sidecars/ambassador:0.1.0")),
    Case("short-grace", "no sleep", stopping("{exec: {command: [nginx, -s, quit]}}")),
    Case("short-grace", "a sleep that nobody can know", stopping("{exec: {command: [sh, -c, 'sleep $DELAY']}}")),
    Case("cluster-name-without-cluster-dns", "dnsPolicy Default",
         resolving("dnsPolicy: Default", "env: [{name: API, value: 'http://api.shop.svc:80/v1'}]"), 5, "api.shop"),
    Case("cluster-name-without-cluster-dns", "a known Service",
         resolving("dnsPolicy: Default", "args: [--api=x, 'http://web.shop:80']"), 5, "web.shop"),
    Case("cluster-name-without-cluster-dns", "hostNetwork",
         resolving("hostNetwork: true", "args: [db.shop.svc.cluster.local]"), 5, "ClusterFirstWithHostNet"),
    Case("cluster-name-without-cluster-dns", "Default, and no such name",
         resolving("dnsPolicy: Default", "args: ['https://example.com/v1']")),
    Case("cluster-name-without-cluster-dns", "the default",
         resolving("dnsPolicy: ClusterFirst", "args: [db.shop.svc.cluster.local]")),
    Case("cluster-name-without-cluster-dns", "hostNetwork, and said so",
         HEAD + "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n  containers:\n"
         '  - {name: app, image: "app:1", args: [db.shop.svc]}\n'),
    Case("waits-for-itself", "by tcp", waiting("tcp://web:80"), 6, "Service web"),
    Case("waits-for-itself", "in full", waiting("http://web.shop.svc.cluster.local/ready"), 6, "Service web"),
    Case("waits-for-itself", "by the API", waiting("k8s:service/web?count=1"), 6, "Service web"),
    Case("waits-for-itself", "the name of a headless Service",
         waiting("dns://web", SERVICE.replace("{selector", "{clusterIP: None, selector")), 6, "Service web"),
    Case("waits-for-itself", "localhost", waiting("tcp://localhost:8080"), 6, "nothing listens"),
    Case("waits-for-itself", "a shell loop",
         f"{HEAD}  initContainers:\n  - name: wait\n    image: busybox:1.37\n"
         f"    command: [sh, -c, 'until nc -z web 80; do sleep 2; done']\n  containers:\n"
         f'  - {{name: app, image: "app:1"}}\n{SERVICE}', 6, "Service web"),
    Case("waits-for-itself", "the mere name", waiting("dns://web")),
    Case("waits-for-itself", "another Service", waiting("tcp://db:5432")),
    Case("waits-for-itself", "another namespace", waiting("tcp://web.stage:80")),
    Case("waits-for-itself", "other labels",
         waiting("tcp://web:80", SERVICE.replace("app: web", "app: web, tier: back"))),
    Case("waits-for-itself", "another pod answers for it",
         waiting("tcp://web:80", f'{SERVICE}---\n{CONTAINERS}  - {{name: app, image: "app:1"}}\n')),
    Case("waits-for-itself", "a native sidecar listens there",
         waiting("tcp://localhost:6380", "").replace(
             "  - name: wait",
             '  - {name: proxy, image: "sidecars/ambassador:0.1.0", restartPolicy: Always}\n  - name: wait')),
    Case("probe-asks-own-service", "by curl",
         probing("readinessProbe: {exec: {command: [curl, -f, 'http://web:80/healthz']}}"), 8, "Service web"),
    Case("probe-asks-own-service", "in a shell",
         probing("startupProbe: {exec: {command: [sh, -c, 'nc -z web.shop 80']}}"), 8, "startupProbe"),
    Case("probe-asks-own-service", "by a host",
         probing("readinessProbe: {tcpSocket: {host: web, port: 80}}"), 8, "web"),
    Case("probe-asks-own-service", "itself", probing("readinessProbe: {httpGet: {path: /web, port: 80}}")),
    Case("probe-asks-own-service", "another", probing("readinessProbe: {exec: {command: [nc, -z, db, '5432']}}")),
    Case("unknown-volume", "none", commanded("volumeMounts: [{name: data, mountPath: /data}]"), 8, "add it"),
    Case("unknown-volume", "one level too high",
         "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n"
         "      containers:\n"
         '      - {name: app, image: "app:1", volumeMounts: [{name: data, mountPath: /data}]}\n'
         "  volumes: [{name: data, emptyDir: {}}]\n", 8, "move it from spec.volumes"),
    Case("unknown-volume", "a claim of a StatefulSet",
         "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  template:\n    spec:\n"
         "      containers:\n"
         '      - {name: app, image: "app:1", volumeMounts: [{name: data, mountPath: /data}]}\n'
         "  volumeClaimTemplates: [{metadata: {name: data}}]\n"),
    Case("unknown-volume", "it is there", reading("{name: logs, mountPath: /logs}")),
    Case("git-repo-volume", "1.37",
         HEAD + "  volumes:\n  - {name: site, gitRepo: {repository: x}}\n", 6, "kubelet refuses"),
    Case("git-repo-volume", "1.29", HEAD + "  volumes:\n  - {name: site, gitRepo: {repository: x}}\n", 6, "from 1.33",
         (1, 29)),
    Case("git-repo-volume", "an emptyDir", HEAD + "  volumes:\n  - {name: gitRepo, emptyDir: {}}\n"),
    Case("unbounded-empty-dir", "{}", HEAD + "  volumes:\n  - name: logs\n    emptyDir: {}\n", 7, "the node's disk"),
    Case("unbounded-empty-dir", "null", HEAD + "  volumes:\n  - name: logs\n    emptyDir:\n", 7, "sizeLimit"),
    Case("unbounded-empty-dir", "memory",
         HEAD + "  volumes:\n  - {name: tmp, emptyDir: {medium: Memory}}\n", 6, "memory"),
    Case("unbounded-empty-dir", "a bound", HEAD + "  volumes:\n  - {name: logs, emptyDir: {sizeLimit: 1Gi}}\n"),
    Case("unshared-log", "no mount", reading("{name: other, mountPath: /elsewhere}"), 9, "no volume is mounted"),
    Case("unshared-log", "a volume of its own", reading("{name: other, mountPath: /logs}"), 9, "no other container"),
    Case("unshared-log", "another subPath",
         reading("{name: logs, mountPath: /logs, subPath: a}", app="{name: logs, mountPath: /l, subPath: b}"),
         9, "subPath"),
    Case("unshared-log", "a shell loop on a volume of its own",
         CONTAINERS + '  - {name: app, image: "app:1"}\n  '
         + TAIL.replace("}", ", volumeMounts: [{name: logs, mountPath: /logs}]}")
         + "\n  volumes: [{name: logs, emptyDir: {}}]\n", 7, "no other container"),
    Case("writable-log-mount", "a shell loop", CONTAINERS + "  - {name: app, image: 'app:1'}\n  "
         + TAIL.replace("}", ", volumeMounts: [{name: logs, mountPath: /logs}]}")
         + "\n  volumes: [{name: logs, emptyDir: {}}]\n", 7, "tail only reads from /logs"),
    Case("unshared-log", "shared", reading("{name: logs, mountPath: /logs}")),
    Case("unshared-log", "a part of what is shared", reading("{name: logs, mountPath: /logs, subPath: app}")),
    Case("unshared-log", "a volume that others may write to", reading("{name: logs, mountPath: /logs}",
         "persistentVolumeClaim: {claimName: logs}", "{name: other, mountPath: /var/log/app}")),
    Case("writable-log-mount", "log-tailer", reading("{name: logs, mountPath: /logs}"), 13, "add `readOnly: true`"),
    Case("writable-log-mount", "read only", reading("{name: logs, mountPath: /logs, readOnly: true}")),
    Case("writable-log-mount", "it removes rotated files",
         reading("{name: logs, mountPath: /logs}").replace("--label=name", "--remove-rotated-after=1h")),
    Case("writable-log-mount", "its state", reading("{name: other, mountPath: /state}")),
    Case("sub-path-never-updates", "a reloader beside it",
         reloading("{name: conf, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}", RELOADER),
         9, "never changes"),
    Case("sub-path-never-updates", "inotifywait in a loop",
         reloading("{name: conf, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}",
                   "{name: watch, image: 'tools:1', command: [sh, -c, 'while inotifywait /etc; do kill 1; done']}"),
         9, "watch waits for changes"),
    Case("sub-path-never-updates", "the whole directory", reloading("{name: conf, mountPath: /etc/nginx}", RELOADER)),
    Case("sub-path-never-updates", "nobody waits for changes",
         reloading("{name: conf, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}", "{name: db, image: 'db:1'}")),
    Case("sub-path-never-updates", "no configuration",
         reloading("{name: data, mountPath: /data, subPath: web}", RELOADER)),
    Case("password-on-argv", "a flag", commanded("args: [--user=shop, --db-password=hunter2]"), 8, "at --db-password"),
    Case("password-on-argv", "a flag and a word",
         commanded("args: [serve, --password, $(DB_PASSWORD)]"), 8, "--password"),
    Case("password-on-argv", "a URL",
         commanded("command: [migrate, 'postgres://shop:hunter2@db/shop']"), 8, "in a URL"),
    Case("password-on-argv", "mysql in a loop",
         commanded("command: [sh, -c, 'until mysqladmin ping -h db -p$PW; do sleep 1; done']"),
         8, "at -p of mysqladmin"),
    Case("password-on-argv", "redis-cli",
         commanded("args: [redis-cli, -h, cache, -a, hunter2, ping]"), 8, "-a of redis-cli"),
    Case("password-on-argv", "curl in a probe",
         commanded("livenessProbe: {exec: {command: [sh, -c, 'curl -fu admin:hunter2 -u admin:hunter2 http://127.0.0.1']}}"),
         8, "-u of curl"),
    Case("password-on-argv", "an assignment in a script", commanded("command: [sh, -c, 'A=1; export B=2; run']")),
    Case("password-on-argv", "files", commanded("args: [--password-file=/secrets/db, --token-file, /secrets/token]")),
    Case("password-on-argv", "an empty one", commanded("args: [--password=, --requirepass, --verbose]")),
    Case("password-on-argv", "a URL without one",
         commanded("args: ['postgres://shop@db:5432/shop', 'http://a:80/x@y']")),
    Case("password-on-argv", "a port of mysql", commanded("args: [mysql, -P3306, --port=3306, --protocol=tcp]")),
    Case("secret-in-manifest", "a value", commanded("env: [{name: DB_PASSWORD, value: hunter2}]"), 8, "secretKeyRef"),
    Case("secret-in-manifest", "a key", commanded("env: [{name: aws_secret_access_key, value: abc}]"), 8, "access_key"),
    Case("secret-in-manifest", "from a Secret",
         commanded("env: [{name: DB_PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}]")),
    Case("secret-in-manifest", "a file", commanded("env: [{name: DB_PASSWORD_FILE, value: /secrets/db}]")),
    Case("secret-in-manifest", "another variable", commanded("env: [{name: PGPASSWORD, value: $(DB_PASSWORD)}]")),
    Case("secret-in-manifest", "empty", commanded("env: [{name: MYSQL_ROOT_PASSWORD, value: ''}]")),
    Case("missing-run-as-non-root", "nothing said", image("app:1"), 5, "app may run as root"),
    Case("missing-run-as-non-root", "one container undoes it",
         f"{HEAD}  securityContext: {{runAsNonRoot: true}}\n  containers:\n  - {{name: app, image: 'app:1'}}\n"
         "  - {name: old, image: 'old:1', securityContext: {runAsNonRoot: false}}\n", 5, "old may"),
    Case("missing-run-as-non-root", "for the pod",
         f"{HEAD}  securityContext: {{runAsNonRoot: true}}\n  containers:\n  - {{name: app, image: 'app:1'}}\n"),
    Case("missing-run-as-non-root", "for each container",
         commanded("securityContext: {runAsNonRoot: true}")),
]  # fmt: skip
