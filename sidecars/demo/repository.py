"""The demo's git repository: a shop's site and its nightly job, of which a commit changes a little each time."""

from __future__ import annotations

import os
import time

from sidecars.core.git import Git

NAME = "shop.git"
BRANCH = "refs/heads/main"

_README = "# shop\n\nThe site of a shop, and what Airflow runs for it at night.\n"
_SITE = """\
<!doctype html>
<title>shop</title>
<h1>The shop</h1>
<p>Green tea costs {price:.2f} today. This is revision {number}.</p>
"""
_DAG = '''\
"""Copy yesterday's orders into the warehouse."""

from datetime import datetime

from airflow.sdk import dag, task


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), catchup=False, tags=["shop", "revision {number}"])
def orders():
    @task
    def copy():
        print("orders copied, by revision {number}")

    copy()


orders()
'''
# Once so often the job changes too, and what a day of commits leaves behind is packed.
_JOB_EVERY, _TIDY_EVERY = 5, 200


class Repository:
    """A bare repository with one branch, made if it is not there; commits go on top. Blocking: call it in a thread."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, NAME)
        self._git = Git()

    def open(self) -> int:
        """Make it, with a first commit, unless it is there; give the number of its commits."""
        if not os.path.exists(os.path.join(self.path, "HEAD")):
            os.makedirs(self.path, exist_ok=True)
            self._git.run("init", "--quiet", "--bare", "--initial-branch=main", cwd=self.path)
            self.commit(1)
        return int(self._git.run("rev-list", "--count", BRANCH, cwd=self.path).text)

    def commit(self, number: int) -> None:
        """Add the commit of this number; a working tree is not needed for it."""
        self._git.run("fast-import", "--quiet", cwd=self.path, input=stream(number, int(time.time())))
        if number % _TIDY_EVERY == 0:
            self._git.run("gc", "--quiet", cwd=self.path, config={"gc.autoDetach": "false"})


def stream(number: int, when: int) -> bytes:
    """Describe the commit of a number, at a time in seconds, as `git fast-import` reads it.

    Source: git-fast-import(1).
    """
    price = 3 + number % 40 / 20
    files = {"site/index.html": _SITE.format(price=price, number=number)}
    if number % _JOB_EVERY == 1:
        files["dags/orders.py"] = _DAG.replace("{number}", str(number))
    if number == 1:
        files["README.md"] = _README
    head = f"commit {BRANCH}\ncommitter The Shop <shop@example.org> {when} +0000\n"
    parent = "" if number == 1 else f"from {BRANCH}^0\n"
    changes = "".join(f"M 100644 inline {path}\n{_data(text)}" for path, text in files.items())
    return (head + _data(f"Green tea costs {price:.2f}") + parent + changes).encode()


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"
