"""What a pod has to give each of these images."""

from __future__ import annotations

import re
from typing import Any

import msgspec

RESTRICTED: dict[str, Any] = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What "restricted" asks of a container, and a read-only root."""

PRIVILEGES = ("privileged", "allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "readOnlyRootFilesystem")


class Traits(msgspec.Struct, frozen=True):
    """What one image needs.

    port    its admin door's; None: it has none, and ends
    memory  the least limit that it works well with, in MiB
    user    the user that the image names
    state   it keeps offsets in /state
    tmp     it writes to /tmp
    drains  on SIGTERM it reads on until its files were quiet, for so long as a classic second container is told
    tries   how many seconds its start may take
    """

    port: int | None
    memory: int
    user: int = 65532
    state: bool = False
    tmp: bool = False
    drains: bool = False
    tries: int = 30


TRAITS = {
    "log-tailer": Traits(9101, 64, state=True, drains=True),
    "log-adapter": Traits(9102, 128, state=True, drains=True),
    "s3-shipper": Traits(9103, 160, state=True, drains=True),
    "git-syncer": Traits(9104, 256, user=65533, tmp=True, tries=120),
    "ambassador": Traits(9105, 128),
    "ambassador-full": Traits(9105, 192),
    "pod-init": Traits(None, 64),
    "pod-init-full": Traits(None, 256),
}

# Images whose user is root, as far as anybody knows without pulling them.
_ROOT = re.compile(
    r"(?:busybox|alpine|debian|ubuntu|bash|centos|fedora|amazonlinux|python|node|golang|ruby|php|nginx|httpd|postgres"
    r"|mysql|mariadb|redis|git|aws-cli|mc|socat|curl|netshoot|dnsutils|tools?)\Z"
)


def base(image: str) -> str:
    """The last part of an image's name: of `gcr.io/x/git-sync:v4@sha256:...` it is git-sync."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def is_root(image: str) -> bool:
    """Whether a container of this image is root's where nothing says otherwise."""
    return _ROOT.match(base(image)) is not None and not image.startswith(("curlimages/", "bitnami"))


def mebibytes(quantity: Any) -> float | None:
    """A quantity of memory, in MiB; None when it is none."""
    found = re.match(r"([0-9.]+)(Ki|Mi|Gi|Ti|k|M|G|T|m)?\Z", str(quantity))
    if not found:
        return None
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}
    try:
        return float(found[1]) * units.get(found[2] or "", 1) / 2**20
    except ValueError:
        return None
