"""`sidecars convert` on 1,000 manifests with a shell loop or two each, beside ruamel.yaml that reads and writes them.

python bench/convert.py
"""

from __future__ import annotations

import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure

FILES = 1_000
ROUNDS = 3

DEPLOYMENT = """\
# The shop's web server, number {number}.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-{number}
  labels:
    app.kubernetes.io/name: web-{number}
    app.kubernetes.io/part-of: shop   # all of it
spec:
  replicas: 3
  selector:
    matchLabels:
      app.kubernetes.io/name: web-{number}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: web-{number}
    spec:
      initContainers:
      - name: wait-for-db
        image: busybox:1.36
        command: ['sh', '-c', "until nc -z db-{number} 5432; do echo waiting for the database; sleep 2; done"]
        resources:
          limits: {{cpu: 50m, memory: 16Mi}}
      containers:
      - name: web
        image: registry.example.com/shop/web:1.{number}
        ports:
        - name: http
          containerPort: 8080
        env:
        - name: DATABASE
          value: postgres://db-{number}:5432/shop
        - name: TOKEN
          valueFrom:
            secretKeyRef: {{name: web, key: token}}
        readinessProbe:
          httpGet: {{path: /healthz, port: http}}
        volumeMounts:
        - name: logs
          mountPath: /var/log/web
      # Shows the access log.
      - name: access-log
        image: busybox:1.36
        args: [/bin/sh, -c, 'tail -n+1 -F /var/log/web/access.log']
        volumeMounts:
        - name: logs
          mountPath: /var/log/web
      volumes:
      - name: logs
        emptyDir: {{}}
---
apiVersion: v1
kind: Service
metadata:
  name: web-{number}
spec:
  selector:
    app.kubernetes.io/name: web-{number}
  ports:
  - port: 80
    targetPort: http
"""

ROUND_TRIP = """
import sys
from pathlib import Path
from ruamel.yaml import YAML
for path in sorted(Path(sys.argv[1]).iterdir()):
    yaml = YAML()
    yaml.dump_all(list(yaml.load_all(path.read_text())), sys.stdout)
"""


def fill(folder: str) -> int:
    """Write the manifests; give their size."""
    size = 0
    for number in range(FILES):
        text = DEPLOYMENT.format(number=number)
        size += len(text)
        with open(os.path.join(folder, f"web-{number}.yaml"), "w", encoding="utf-8") as file:
            file.write(text)
    return size


def timed(command: list[str]) -> dict[str, float]:
    """Run a command to its end; give wall and CPU seconds, and its largest resident set in MB."""
    from bench.init import timed as ended

    return ended(command)


def main() -> None:
    with measure.scratch() as folder:
        size = fill(folder)
        sidecars = [measure.PYTHON, "-I", "-m", "sidecars.pods", "convert"]
        runs = {
            "convert --diff": lambda: timed([*sidecars, "--diff", folder]),
            "convert --format json": lambda: timed([*sidecars, "--format", "json", folder]),
        }
        if (
            subprocess.run(
                [sys.executable, "-c", "import ruamel.yaml"], stderr=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        ):
            runs["ruamel.yaml, read and written"] = lambda: timed([sys.executable, "-c", ROUND_TRIP, folder])
        figures = measure.in_turn(runs, ROUNDS)
    rows = [[name, f"{each['wall']:.1f}", f"{each['cpu']:.1f}", f"{each['rss']:.0f}"] for name, each in figures.items()]
    measure.table(f"{FILES:,} manifests, {size / 1e6:.1f} MB", ("", "wall s", "CPU s", "RSS MB"), rows)
    measure.save("convert", {"files": FILES, "bytes": size, "runs": figures})


if __name__ == "__main__":
    main()
