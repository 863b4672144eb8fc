"""Certificates to test with, in files, and a Secret that kubelet renews."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme


class Files:
    """Certificates of one authority, as files; and of a stranger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.stranger = trustme.CA(), trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        self.other_ca = str(folder / "other-ca.pem")
        self.stranger.cert_pem.write_to_path(self.other_ca)
        self.good = self.issue("good", "db.example", "127.0.0.1")
        self.client = self.issue("client", "app.example")
        self.other = self.issue("other", "db.example", authority=self.stranger)
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
        self.expired = self.issue("expired", "db.example", not_after=past)

    def issue(self, file: str, *names: str, authority: trustme.CA | None = None, **options: datetime.datetime) -> str:
        path = self.folder / f"{file}.pem"
        issued = (authority or self.authority).issue_cert(*names, **options)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)


class Secret:
    """A directory as kubelet mounts a Secret: its files are links through ..data, which is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self.cert = str(folder / "tls.pem")

    def swap(self, content: bytes) -> None:
        self.count += 1
        (self.folder / f"..{self.count}").mkdir()
        (self.folder / f"..{self.count}" / "tls.pem").write_bytes(content)
        (self.folder / "..new").symlink_to(f"..{self.count}")
        (self.folder / "..new").rename(self.folder / "..data")
        if self.count == 1:
            (self.folder / "tls.pem").symlink_to("..data/tls.pem")
