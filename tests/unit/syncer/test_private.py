from __future__ import annotations

import os
import subprocess
import threading

from sidecars.syncer.private import PrivateFile


def read(path: str) -> str:
    return subprocess.run(["cat", path], capture_output=True, text=True, check=True).stdout


def test_another_process_reads_it_whole_until_it_is_closed():
    file = PrivateFile(b"one")
    assert read(file.path) == "one"
    file.replace(b"another" * 10_000)
    assert read(file.path) == "another" * 10_000
    file.replace(b"")
    assert read(file.path) == ""
    file.close()
    assert not os.path.exists(file.path)


def test_who_reads_while_it_is_replaced_meets_the_old_or_the_new():
    old, new = b"a" * 1_000_000, b"b" * 1_000_000
    file = PrivateFile(old)
    ended = threading.Event()

    def replace() -> None:
        while not ended.is_set():
            file.replace(new)
            file.replace(old)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        found = set()
        for _ in range(100):
            with open(file.path, "rb") as reader:
                found.add(reader.read())
    finally:
        ended.set()
        thread.join()
        file.close()
    assert found <= {old, new}


def test_a_closed_one_touches_no_other_file():
    file = PrivateFile(b"one")
    file.close()
    number = os.open("/dev/null", os.O_RDONLY)
    file.replace(b"another")
    file.close()
    assert os.readlink(f"/proc/self/fd/{number}") == "/dev/null"
    os.close(number)
