from __future__ import annotations

import pytest

from sidecars.pods.images import TRAITS, base, is_root, mebibytes
from tests.manifests.house import SIDECARS


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("busybox", "busybox"),
        ("busybox:1.28", "busybox"),
        ("registry.example:5000/a/git-sync:v4@sha256:ab", "git-sync"),
        ("registry.example:5000/a", "a"),
        ("", ""),
    ],
)
def test_an_image_is_known_by_the_last_part_of_its_name(image: str, name: str) -> None:
    assert base(image) == name


@pytest.mark.parametrize(
    ("image", "root"),
    [
        ("busybox", True),
        ("library/alpine:3", True),
        ("curlimages/curl", False),
        ("bitnami/redis", False),
        ("shop", False),
    ],
)
def test_tools_are_root_as_far_as_anybody_knows(image: str, root: bool) -> None:
    assert is_root(image) == root


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("64Mi", 64), ("1Gi", 1024), ("128974848", 123), ("64M", 61.03515625), (1048576, 1), ("0.5Gi", 512), ("x", None)],
)
def test_quantities_are_read_as_kubernetes_writes_them(quantity: object, size: float | None) -> None:
    assert mebibytes(quantity) == size


def test_limits_and_ports_are_those_that_the_manifests_of_this_repository_keep() -> None:
    for name, sidecar in SIDECARS.items():
        traits = TRAITS[name]
        assert (traits.port or 0, traits.user) == (sidecar.port, sidecar.user)
        assert traits.memory >= sidecar.most >> 20
