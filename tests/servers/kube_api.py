"""A small stand-in for the Kubernetes API server, strict about what is asked, written from the API's conventions.

Authentication before authorisation before the object, as the real one; its refusals are Status objects in its words.
Sources: kubernetes.io, "API Concepts" (lists, limit and continue, 410), api-conventions.md (Status);
k8s.io/apimachinery, pkg/api/errors (messages); k8s.io/apiserver, endpoints/handlers/responsewriters/errors.go (403).
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import trustme

TOKEN = "t0ken.of.the-pod"
USER = "system:serviceaccount:prod:default"
# Of each group and version: resource, kind, whether it is in namespaces.
_SERVED: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("pods", "Pod", True), ("services", "Service", True), ("namespaces", "Namespace", False),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True), ("configmaps", "ConfigMap", True),
    ],
    "apps/v1": [("deployments", "Deployment", True), ("statefulsets", "StatefulSet", True)],
    "batch/v1": [("jobs", "Job", True)],
    "discovery.k8s.io/v1": [("endpointslices", "EndpointSlice", True)],
    "apiextensions.k8s.io/v1": [("customresourcedefinitions", "CustomResourceDefinition", False)],
}  # fmt: skip
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[a-z0-9.-]+)/(?P<version>v[0-9a-z]+))"
    r"(?:/namespaces/(?P<namespace>[a-z0-9.-]+))?/(?P<resource>[a-z]+)(?:/(?P<name>[A-Za-z0-9._:-]+))?"
)


class Refusal(Exception):  # noqa: N818
    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        self.code = code
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
            "reason": reason, **({"details": details} if details else {}), "code": code,
        }  # fmt: skip


class Api:
    """The server, on loopback by TLS; what it holds and whom it allows may change at any time.

    allowed  (verb, group, resource) that the account may; None: all
    failing  (status, headers) that everything is answered with
    """

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.tls = context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.folder = folder
        folder.mkdir()
        authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        (folder / "namespace").write_text("prod")
        self.renew(TOKEN)
        self.served = {place: list(resources) for place, resources in _SERVED.items()}
        self.objects: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.allowed: set[tuple[str, str, str]] | None = None
        self.failing: tuple[int, dict[str, str]] | None = None
        self.asked: list[str] = []
        self.wrong: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        assert not self.wrong

    def renew(self, token: str) -> None:
        """Another token, as kubelet renews it: the old one is not accepted any more."""
        self.token = token
        (self.folder / "token").write_text(token)

    def put(self, place: str, resource: str, name: str, namespace: str = "prod", **body: Any) -> None:
        """Make or replace an object; `place` is v1, or GROUP/VERSION."""
        kind, inside = next((kind, inside) for each, kind, inside in self.served[place] if each == resource)
        metadata = {"name": name, **({"namespace": namespace} if inside else {}), **body.pop("metadata", {})}
        where = (place, namespace if inside else "", resource, name)
        self.objects[where] = {"apiVersion": place, "kind": kind, "metadata": metadata, **body}

    def delete(self, place: str, resource: str, name: str, namespace: str = "prod") -> None:
        del self.objects[place, namespace, resource, name]

    def answer(self, path: str, authorization: str) -> dict[str, Any]:
        """What GET of a path gives, or a Refusal."""
        url = urlsplit(path)
        query = {name: value[0] for name, value in parse_qs(url.query, strict_parsing=bool(url.query)).items()}
        if authorization != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        if discovery := re.fullmatch(r"/apis/([a-z0-9.-]+)(?:/(v[0-9a-z]+))?", url.path):
            return self._discover(discovery[1], discovery[2])
        match = _PATH.fullmatch(url.path)
        if not match:
            raise Refusal(404, "", "404 page not found")
        group = match["group"] or ""
        place = f"{group}/{match['version']}" if group else "v1"
        verb, resource, namespace = "get" if match["name"] else "list", match["resource"], match["namespace"] or ""
        self._authorise(verb, group, resource, namespace, match["name"] or "")
        inside = next((inside for each, _, inside in self.served.get(place, []) if each == resource), None)
        if inside is None or bool(namespace) is not inside:
            raise Refusal(404, "", "404 page not found")
        if not match["name"]:
            return self._list(place, namespace, resource, query)
        if query:
            self.wrong.append(path)
        found = self.objects.get((place, namespace, resource, match["name"]))
        if found is None:
            full = f"{resource}.{group}" if group else resource
            details = {"name": match["name"], **({"group": group} if group else {}), "kind": resource}
            raise Refusal(404, "NotFound", f'{full} "{match["name"]}" not found', **details)
        return found

    def _authorise(self, verb: str, group: str, resource: str, namespace: str, name: str) -> None:
        if self.allowed is None or (verb, group, resource) in self.allowed:
            return
        full = f"{resource}.{group}" if group else resource
        scope = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
        message = (
            f'{full} {json.dumps(name) + " " if name else ""}is forbidden: User "{USER}" cannot {verb} resource '
            f'"{resource}" in API group "{group}" {scope}'
        )
        raise Refusal(403, "Forbidden", message, **({"name": name} if name else {}), group=group, kind=resource)

    def _discover(self, group: str, version: str | None) -> dict[str, Any]:
        versions = [place.partition("/")[2] for place in self.served if place.startswith(f"{group}/")]
        if not versions or version not in (None, *versions):
            raise Refusal(404, "", "404 page not found")
        if version is None:
            listed = [{"groupVersion": f"{group}/{each}", "version": each} for each in versions]
            return {
                "kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": listed,
                "preferredVersion": listed[0],
            }  # fmt: skip
        place = f"{group}/{version}"
        resources: list[dict[str, Any]] = []
        for name, kind, inside in self.served[place]:
            entry = {"name": name, "singularName": kind.lower(), "namespaced": inside, "kind": kind, "verbs": ["get"]}
            resources += [{**entry, "name": f"{name}/status"}, {**entry, "shortNames": [kind.lower()[:4]]}]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": place, "resources": resources}

    def _list(self, place: str, namespace: str, resource: str, query: dict[str, str]) -> dict[str, Any]:
        if query.keys() - {"labelSelector", "limit", "continue"}:
            self.wrong.append(str(query))
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair)
        those = [each for where, each in sorted(self.objects.items()) if where[:3] == (place, namespace, resource)]
        found = [each for each in those if wanted.items() <= each["metadata"].get("labels", {}).items()]
        start, limit = int(query.get("continue", "0")), int(query.get("limit", "0")) or len(found)
        # In a list an object has neither kind nor apiVersion.
        items = [
            {key: value for key, value in each.items() if key not in ("kind", "apiVersion")}
            for each in found[start : start + limit]
        ]
        metadata = {"resourceVersion": "1"}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return {"kind": "List", "apiVersion": place, "metadata": metadata, "items": items}


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def do_GET(self) -> None:
            api.asked.append(self.path)
            if (
                self.headers["Accept"] != "application/json"
                or not self.headers["User-Agent"]
                or not self.headers["Host"]
            ):
                api.wrong.append(str(self.headers))
            if api.failing:
                return self._say(api.failing[0], {"kind": "Status", "message": "try again"}, **api.failing[1])
            try:
                self._say(200, api.answer(self.path, self.headers["Authorization"] or ""))
            except Refusal as refusal:
                # What is no path of the API is answered in plain text, by the server's mux.
                self._say(refusal.code, refusal.status if refusal.status["reason"] else "404 page not found\n")

        def _say(self, code: int, document: Any, **headers: str) -> None:
            body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(document, str) else "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
