"""The examples run: their tests, their types, and the shop with all its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
import redis
from house import BIN, ROOT
from postbox import free_port
from waiting import wait_for

EXAMPLES = ROOT / "docs" / "examples"
SHOP = EXAMPLES / "shop"


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the example in `folder` to its end."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_shop_s_own_tests_pass() -> None:
    done = run(SHOP, "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout


def test_mypy_finds_nothing_in_the_shop(tmp_path: Path) -> None:
    done = run(
        SHOP, "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path}", "shop"
    )
    assert done.returncode == 0, done.stdout


class Listener(BaseHTTPRequestHandler):
    """A customer's system: notes what it is told."""

    def do_POST(self) -> None:
        """Say nothing but that it was heard."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(self.headers["Idempotency-Key"])  # type: ignore[attr-defined]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def customer() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Listener)
    server.told = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Running:
    """The shop as `make run` runs it, in a copy, with this tree for a dependency."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(SHOP, folder, dirs_exist_ok=True)
        for package in ("models", "worker"):
            shutil.copytree(ROOT / package, folder / package)
        self.folder, self.output, port = folder, folder / "output.txt", free_port()
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "worker.running"],
                cwd=folder,
                env={
                    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                    "PYTHONPATH": str(folder),
                    "PENDING_MODULES": "shop.jobs",
                    "PENDING_EXAMPLE": "0",
                    "SHOP_PORT": str(port),
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def end(self) -> None:
        """Stop all of it, as Ctrl-C does."""
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.said()
        with contextlib.suppress(httpx2.TransportError):
            return self.client.get("/openapi.json").is_success
        return False

    def post(self, path: str, **values: object) -> dict[str, object]:
        answer = self.client.post(path, json=values)
        assert answer.is_success, answer.text
        return answer.json()

    def until_done(self, order: dict[str, object]) -> None:
        """Wait until the order needs nothing more."""
        wait_for(
            lambda: self.client.get(f"/orders/{order['id']}").json()["needs"] == [],
            what=f"not done: {self.said()[-3000:]}",
        )

    def mails(self) -> int:
        return len(list((self.folder / "var" / "outbox").glob("*.eml")))


@pytest.fixture
def shop() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        shop = Running(Path(folder))
        try:
            wait_for(shop.answers)
            yield shop
        finally:
            shop.end()


def test_the_shop_runs_and_loses_nothing_with_its_queue(
    shop: Running, customer: HTTPServer
) -> None:
    lamp = shop.post("/products", name="Lamp", price=2_500)["id"]
    new = {
        "product": lamp,
        "email": "ann@example.com",
        "webhook": f"http://127.0.0.1:{customer.server_port}/",
    }
    shop.until_done(shop.post("/orders", **new))
    assert (shop.mails(), len(customer.told)) == (1, 1)  # type: ignore[attr-defined]
    wait_for(lambda: shop.client.get("/search", params={"words": "lamp"}).json())
    with redis.Redis(unix_socket_path=f"{shop.folder}/var/valkey.sock") as queue:
        queue.shutdown(nosave=True)
    again = shop.post("/orders", **new)
    shop.until_done(again)
    assert (shop.mails(), len(set(customer.told))) == (2, 2)  # type: ignore[attr-defined]
