"""Runs a command as if the kernel knew no IPv6 (ipv6.disable=1): socket(AF_INET6) is answered EAFNOSUPPORT.

python without_ipv6.py COMMAND...
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

SOCKET = {"x86_64": 41, "aarch64": 198}[platform.machine()]
AF_INET6 = 10
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2


def filtered() -> None:
    program = b"".join(
        struct.pack("HBBI", *step)
        for step in (
            (LOAD, 0, 0, NUMBER_AT),
            (JUMP_IF_EQUAL, 0, 3, SOCKET),
            (LOAD, 0, 0, FIRST_ARGUMENT_AT),
            (JUMP_IF_EQUAL, 0, 1, AF_INET6),
            (RETURN, 0, 0, ERRNO | errno.EAFNOSUPPORT),
            (RETURN, 0, 0, ALLOW),
        )
    )
    steps = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, FILTER, header, 0, 0) == 0, os.strerror(ctypes.get_errno())


if __name__ == "__main__":
    filtered()
    os.execvp(sys.argv[1], sys.argv[1:])
