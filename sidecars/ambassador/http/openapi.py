"""What the REST view says of itself: an OpenAPI 3.1 document, of which clients can be made."""

from __future__ import annotations

import json
from typing import Any

from sidecars import __version__
from sidecars.ambassador.http.settings import Auth, Http

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_TTL = {"type": "number", "exclusiveMinimum": 0, "maximum": 10**10}


def document(http: Http, most: int) -> bytes:
    """Write it for a listener, whose values have so many bytes at most."""
    schemes = _schemes(http.auth) if http.auth else {}
    about: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Keys of Redis",
            "version": __version__,
            "description": f"Values of bytes, {most} at most, by key: each key on one of several servers.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/keys/{key}": {
                "parameters": [
                    {
                        "name": "key",
                        "in": "path",
                        "required": True,
                        "description": "Any bytes, percent-encoded; a / may stand as it is.",
                        "schema": {"type": "string", "minLength": 1},
                    }
                ],
                "get": _get(),
                "head": {**_get(), "operationId": "lookAtKey", "summary": "As GET, without the value."},
                "put": _put(most),
                "delete": _delete(),
            },
            "/openapi.json": {"get": _described()},
        },
        "components": {"securitySchemes": schemes} if schemes else {},
    }
    if schemes:
        about["security"] = [{name: []} for name in schemes]
    return json.dumps(about, indent=2).encode() + b"\n"


def _get() -> dict[str, Any]:
    left = {"description": "The seconds until it is gone; not there if it stays.", "schema": {"type": "number"}}
    return {
        "operationId": "getKey",
        "summary": "The value of a key.",
        "responses": {
            "200": {"description": "The value.", "headers": {"X-TTL": left}, "content": _BYTES},
            "404": _text("There is no such key."),
            "409": _text("Its value is of another kind: a list, a set, a hash."),
            **_failures("The shard gives an error, or the value is too long."),
        },
    }


def _put(most: int) -> dict[str, Any]:
    return {
        "operationId": "putKey",
        "summary": "Keep a value, in the place of one that is there.",
        "parameters": [
            _parameter("ttl", "query", "The seconds until it is gone. Without it, it stays.", _TTL),
            _parameter("X-TTL", "header", "The same, as a header.", _TTL),
            _parameter("If-None-Match", "header", "*: only if there is no such key.", {"const": "*"}),
            _parameter("If-Match", "header", "*: only if there is such a key.", {"const": "*"}),
        ],
        "requestBody": {"description": f"The value, {most} bytes at most.", "required": True, "content": _BYTES},
        "responses": {
            "201": {"description": "It is kept, and was not there; by If-None-Match."},
            "204": {"description": "It is kept."},
            "400": _text("The ttl is none, or a condition is not *."),
            "412": _text("The condition does not hold; nothing is changed."),
            "413": _text("The value is too long."),
            **_failures(),
        },
    }


def _delete() -> dict[str, Any]:
    return {
        "operationId": "deleteKey",
        "summary": "Remove a key.",
        "responses": {
            "204": {"description": "It is gone."},
            "404": _text("There is no such key."),
            **_failures(),
        },
    }


def _described() -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "operationId": "describe",
        "summary": "This document.",
        "responses": {"200": {"description": "OpenAPI 3.1.", "content": content}},
    }


def _failures(error: str = "The shard gives an error.") -> dict[str, Any]:
    again = {"Retry-After": {"description": "In so many seconds.", "schema": {"type": "integer"}}}
    return {
        "502": _text(error),
        "503": {**_text("The shard of this key is down, or too much is asked of it."), "headers": again},
        "504": _text("The shard does not answer in time: nobody knows whether it was done."),
        "default": _text("What a rule of the listener says: 401, 403, 405, 414, 429."),
    }


def _text(description: str) -> dict[str, Any]:
    return {"description": description, "content": _TEXT}


def _parameter(name: str, place: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "description": description, "schema": schema}


def _schemes(auth: Auth) -> dict[str, Any]:
    """Say how clients come in: by one of these."""
    schemes: dict[str, Any] = {}
    if auth.api_keys:
        schemes["apiKey"] = {"type": "apiKey", "in": "header", "name": auth.api_keys.header}
    if auth.basic:
        schemes["basic"] = {"type": "http", "scheme": "basic"}
    if auth.bearer:
        schemes["bearer"] = {"type": "http", "scheme": "bearer"}
    if auth.jwt:
        schemes["jwt"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    return schemes
