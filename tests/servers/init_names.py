"""Run a command in a network of its own, where a name server answers on port 53 what a file says at that moment.

    unshare --net --mount --pid --kill-child python -m tests.servers.init_names NAMES.json RESOLV.CONF COMMAND...

NAMES.json: {"db.prod.svc.cluster.local": {"A": ["127.0.0.1"]}, "silent.example": null}; what is null is not answered.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading

from tests.servers.name_server import NameServer

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # ioctl numbers of <linux/sockios.h>


def main() -> None:
    names, config, *command = sys.argv[1:]
    up("lo")
    subprocess.run(["mount", "--bind", config, "/etc/resolv.conf"], check=True)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 53))
    threading.Thread(target=serve, args=(sock, names), daemon=True).start()
    raise SystemExit(subprocess.call(command))


def up(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", interface.encode(), 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(sock, _GET_FLAGS, request))[1]
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sH14x", interface.encode(), flags | _UP))


def serve(sock: socket.socket, names: str) -> None:
    while True:
        question, client = sock.recvfrom(4096)
        server = NameServer()
        with open(names) as file:
            for name, records in json.load(file).items():
                if records is None:
                    server.trouble[name] = "silent"
                for type, values in (records or {}).items():
                    server.set(name, type, *values)
        if answer := server.answer(question, "udp"):
            sock.sendto(answer, client)


if __name__ == "__main__":
    main()
