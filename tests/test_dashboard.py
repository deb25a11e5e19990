"""The dashboard by HTTP: what it shows, what it changes, whom it refuses."""

from __future__ import annotations

import io
import re
import socket
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from html import unescape
from types import SimpleNamespace
from urllib.parse import urlencode

import peewee
import pytest
from a2wsgi import ASGIMiddleware
from domain import Order, Page
from looking import only, write
from python import pending, run_python
from starlette.applications import Starlette
from starlette.authentication import SimpleUser
from starlette.routing import Mount
from starlette.testclient import TestClient

from models import NEVER, User
from models.connection import connected
from models.instants import instant
from models.listing import shown
from models.operations import TABLES, Count
from models.operations import now as operations_now
from models.pausing import pauses
from models.tallies import Minute
from worker.dashboard import (
    actions,
    app,
    app_without_login,
    asking,
    charts,
    guarding,
    history,
    pages,
    rendering,
)
from worker.dashboard.serving import problem_of

FLAG = User.needs_welcome_email
LABEL = "user.needs_welcome_email"
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\u202e{{7*7}}"
)
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


def client_of(application=app, *, host="localhost", address="127.0.0.1"):
    return TestClient(
        application,
        base_url=f"http://{host}",
        client=(address, 1),
        follow_redirects=False,
    )


@pytest.fixture
def client():
    with connected(User._meta.database):
        for table in (User, *TABLES):
            table.delete().execute()
        yield client_of()
        for table in (User, *TABLES):
            table.delete().execute()


@pytest.fixture
def patient(monkeypatch):
    """A machine that is busy with other tests is no database that hangs."""
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 20)


pytestmark = pytest.mark.usefixtures("patient")


def users(number, **companions):
    rows = [
        User.create(email=f"user{n}@example.com", needs_welcome_email=True)
        for n in range(number)
    ]
    for row in rows:
        if companions:
            write(FLAG, row, **companions)
    return rows


def parked(number, error="no such street"):
    return users(number, due=NEVER, attempts=3, error=error)


def states():
    return [shown(FLAG, (user.id,)).state.value for user in User.select()]


def text_of(response):
    """What a reader sees."""
    body = re.sub(r"<head>.*?</head>", "", response.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def form_of(response):
    pairs = re.findall(
        r'<input type="hidden" name="(\w+)" value="([^"]*)">', response.text
    )
    form = {}
    for name, value in pairs:
        form.setdefault(name, []).append(unescape(value))
    return form


def confirmed(client, verb, **query):
    """Ask for something, and say yes."""
    question = client.get(f"/confirm?verb={verb}", params={"verb": verb, **query})
    assert question.status_code == 200, question.text
    answer = client.post("/do", data=form_of(question), headers=SAME_ORIGIN)
    assert answer.status_code == 303, answer.text
    return client.get(answer.headers["location"])


def test_what_needs_somebody_comes_first(client):
    parked(2)
    page = client.get("/")
    assert page.status_code == 200
    first = re.search(r'<th scope="row">.*?</th>', page.text, re.DOTALL)[0]
    assert "cannot be read" in text_of(page)  # the flags of other tests' models
    assert "2 parked" in page.text
    assert "chip bad" in first


def test_a_flag_shows_its_rows_by_state_and_the_state_that_matters_first(client):
    users(1)
    parked_row = User.create(email="p@example.com", needs_welcome_email=True)
    write(FLAG, parked_row, due=NEVER, error="no such street")
    page = client.get("/flag", params={"flag": LABEL})
    assert "no such street" in page.text
    assert 'aria-current="page"' in page.text
    due = client.get("/flag", params={"flag": LABEL, "state": "due"})
    assert "user0" not in due.text  # keys, not values
    assert "no such street" not in due.text


def test_a_filter_narrows_the_rows_and_is_part_of_the_address(client):
    row, _ = parked(2)
    typed = {"flag": LABEL, "state": "parked", "field": "email", "sign": "="}
    answer = client.get("/flag", params={**typed, "value": row.email})
    assert answer.status_code == 303
    page = client.get(answer.headers["location"])
    assert page.text.count('name="key" value=') == 1
    assert f"email={row.email}" in page.text


def test_rows_come_in_pages(client):
    parked(60)
    page = client.get("/flag", params={"flag": LABEL})
    assert page.text.count('name="key" value=') == 50
    more = unescape(re.search(r'rel="next" href="([^"]+)"', page.text)[1])
    assert client.get(more).text.count('name="key" value=') == 10


def test_a_row_shows_its_whole_error_and_its_fields(client):
    (row,) = parked(1, error="Oops: broken\n  called at shop.py:1 in pay")
    page = client.get("/row", params={"flag": LABEL, "key": row.id})
    assert "called at shop.py:1 in pay" in page.text
    assert row.email in page.text
    assert "Given up" in page.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/flag?flag=nobody.knows", 404),
        (f"/row?flag={LABEL}&key=1", 404),
        (f"/row?flag={LABEL}&key=abc", 400),
        (f"/flag?flag={LABEL}&where=colour%3Dred", 400),
        (f"/flag?flag={LABEL}&state=due&after=nonsense", 400),
        ("/nothing/here", 404),
        ("/deed?id=unknown", 404),
        (f"/confirm?verb=burn&flag={LABEL}", 400),
        (f"/confirm?verb=retry&flag={LABEL}&state=due&all=1", 400),
        (f"/confirm?verb=retry&flag={LABEL}&state=odd&all=1", 400),
        (f"/confirm?verb=retry&flag={LABEL}&state=parked", 400),
        ("/do", 405),
    ],
)
def test_what_cannot_be_meant_is_a_page_that_says_so(client, path, status):
    page = client.get(path)
    assert page.status_code == status
    assert "All flags" in page.text


ODD = (
    "",
    "\0",
    "%",
    "\ud7ff",
    "9" * 40,
    "[]",
    '[1, "x"]',
    "a,b",
    "ä" * 5000,
    "~",
    "=x",
)


@pytest.mark.parametrize("name", ["flag", "state", "where", "after", "key", "field"])
def test_no_odd_address_is_a_fault_of_ours(client, name):
    for path in ("/flag", "/row", "/confirm?verb=retry&all=1", "/deed"):
        for value in ODD:
            query = {"flag": LABEL, "state": "parked", name: value}
            address = f"{path.partition('?')[0]}"
            extra = {"verb": "retry", "all": "1"} if "?" in path else {}
            answer = client.get(address, params={**query, **extra})
            assert answer.status_code < 500, (path, name, value)


def test_one_row_is_retried_once_it_is_confirmed(client):
    row, other = parked(2)
    page = confirmed(client, "retry", flag=LABEL, key=row.id, state="parked")
    assert "1 row retried" in text_of(page)
    assert "Waits for a worker" in text_of(page)
    assert shown(FLAG, (row.id,)).state == "due"
    assert shown(FLAG, (other.id,)).state == "parked"


def test_a_selection_and_all_that_match_are_counted_before_and_after(client):
    rows = parked(5)
    some = [row.id for row in rows[:2]]
    page = confirmed(client, "unmark", flag=LABEL, key=some, state="parked")
    assert "2 rows unmarked" in text_of(page)
    question = client.get(
        "/confirm",
        params={
            "verb": "retry",
            "flag": LABEL,
            "state": "parked",
            "all": 1,
            "where": "error~street",
        },
    )
    assert "Retry 3 rows?" in text_of(question)
    page = confirmed(
        client, "retry", flag=LABEL, state="parked", all=1, where="error~street"
    )
    assert "3 rows retried" in text_of(page)
    assert sorted(states()) == ["due"] * 3 + ["idle"] * 2


@pytest.mark.parametrize(
    ("verb", "state", "companions", "after"),
    [
        ("park", "due", {}, "parked"),
        ("mark", "scheduled", {"due": NEVER - 1}, "due"),
        ("unmark", "scheduled", {"due": NEVER - 1}, "idle"),
    ],
)
def test_each_verb_does_what_it_says(client, verb, state, companions, after):
    (row,) = users(1, **companions)
    confirmed(client, verb, flag=LABEL, key=row.id, state=state)
    assert shown(FLAG, (row.id,)).state == after


def test_a_row_that_is_done_can_be_marked(client):
    row = User.create(email="a@example.com")
    page = confirmed(client, "mark", flag=LABEL, key=row.id, state="idle")
    assert "1 row marked" in text_of(page)
    assert states() == ["due"]


def test_the_second_operator_changes_nothing_and_hears_so(client):
    (row,) = parked(1)
    first, second = client_of(), client_of()
    query = {"flag": LABEL, "key": row.id, "state": "parked"}
    questions = [
        one.get("/confirm", params={"verb": "retry", **query})
        for one in (first, second)
    ]
    said = []
    for one, question in zip((first, second), questions, strict=True):
        answer = one.post("/do", data=form_of(question), headers=SAME_ORIGIN)
        said.append(text_of(one.get(answer.headers["location"])))
    assert "1 row retried" in said[0]
    assert "0 rows retried: already done" in said[1]


def test_two_operators_at_once_change_each_row_once(client, caplog):
    caplog.set_level("INFO", "pending.operator")
    parked(700)
    query = {"verb": "retry", "flag": LABEL, "state": "parked", "all": 1}
    clients = [client_of(), client_of()]
    forms = [form_of(one.get("/confirm", params=query)) for one in clients]
    threads = [
        threading.Thread(
            target=one.post,
            args=("/do",),
            kwargs={"data": form, "headers": SAME_ORIGIN},
        )
        for one, form in zip(clients, forms, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deadline = time.monotonic() + 20
    while len(counts := re.findall(r"retried flag=\S+ rows=(\d+)", caplog.text)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sum(map(int, counts)) == 700


def test_what_takes_long_goes_on_behind_a_page_that_tells(client, monkeypatch):
    monkeypatch.setattr(actions, "_WAIT_SECONDS", 0)
    parked(3)
    query = {"verb": "retry", "flag": LABEL, "state": "parked", "all": 1}
    form = form_of(client.get("/confirm", params=query))
    answer = client.post("/do", data=form, headers=SAME_ORIGIN)
    assert "/deed?id=" in answer.headers["location"]
    deadline = time.monotonic() + 20
    while "3 rows retried" not in text_of(client.get(answer.headers["location"])):
        assert time.monotonic() < deadline
    assert states() == ["due"] * 3


def test_what_another_process_does_is_no_error(client):
    page = client.get("/deed?id=somebody-else-s")
    assert page.status_code == 404
    assert "Another process of the dashboard does it" in text_of(page)
    refreshed = client.get("/deed?id=somebody-else-s", headers={"X-Refresh": "1"})
    assert (refreshed.status_code, refreshed.text) == (204, "")


def test_the_questions_of_a_page_share_its_time(client, monkeypatch):
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(pages, "_look", slowly(pages._look, 0.7))
    monkeypatch.setattr(pages, "_rows", slowly(pages._rows, 0.7))
    started = time.monotonic()
    assert client.get("/flag", params={"flag": LABEL}).status_code == 503
    assert time.monotonic() - started < 1.4


def slowly(step, seconds):
    def run(*arguments):
        time.sleep(seconds)
        return step(*arguments)

    return run


def test_a_flag_is_paused_with_a_reason_and_resumed(client):
    question = client.get("/confirm", params={"verb": "pause", "flag": LABEL})
    form = {**form_of(question), "until": "1h", "reason": "mail server moves"}
    client.post("/do", data=form, headers=SAME_ORIGIN)
    (pause,) = pauses()
    assert (pause.flag, pause.reason) == (LABEL, "mail server moves")
    assert pause.until is not None
    assert "mail server moves" in client.get("/flag", params={"flag": LABEL}).text
    again = client.post("/do", data={**form, "until": ""}, headers=SAME_ORIGIN)
    assert "was paused already" in text_of(client.get(again.headers["location"]))
    assert pauses() == [pause]
    page = confirmed(client, "resume", flag=LABEL)
    assert "resumed" in text_of(page)
    assert pauses() == []
    assert "was resumed already" in text_of(confirmed(client, "resume", flag=LABEL))


def test_everything_is_paused_at_once(client):
    page = confirmed(client, "pause", flag="*")
    assert "Everything is paused" in text_of(page)
    assert [one.flag for one in pauses()] == ["*"]


def test_the_message_of_a_change_is_shown_once(client):
    (row,) = parked(1)
    page = confirmed(client, "retry", flag=LABEL, key=row.id, state="parked")
    assert "1 row retried" in text_of(page)
    again = client.get("/row", params={"flag": LABEL, "key": row.id})
    assert "1 row retried" not in text_of(again)


FORGERIES = {
    "another site": {"sec-fetch-site": "cross-site"},
    "a sister site": {"sec-fetch-site": "same-site"},
    "a typed address": {"sec-fetch-site": "none"},
    "another origin": {"origin": "http://evil.example"},
    "another port": {"origin": "http://localhost:3000"},
    "a hidden origin": {"origin": "null"},
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_change_that_no_page_of_ours_sent_is_refused(client, kind):
    (row,) = parked(1)
    query = {"verb": "retry", "flag": LABEL, "key": row.id, "state": "parked"}
    form = form_of(client.get("/confirm", params=query))
    answer = client.post("/do", data=form, headers=FORGERIES[kind])
    assert answer.status_code == 403
    assert states() == ["parked"]


@pytest.mark.parametrize("told", [{"origin": "http://localhost"}, {}])
def test_an_old_browser_or_a_program_is_believed_if_it_has_the_secret(client, told):
    (row,) = parked(1)
    query = {"verb": "retry", "flag": LABEL, "key": row.id, "state": "parked"}
    form = form_of(client.get("/confirm", params=query))
    forged = {**form, "token": "x"}
    assert client.post("/do", data=forged, headers=told).status_code == 403
    assert states() == ["parked"]
    client.post("/do", data=form, headers=told)
    assert states() == ["due"]


@pytest.mark.parametrize("token", ["", "guessed", None])
def test_a_form_without_the_cookie_s_secret_is_refused(client, token):
    (row,) = parked(1)
    query = {"verb": "retry", "flag": LABEL, "key": row.id, "state": "parked"}
    form = form_of(client.get("/confirm", params=query))
    if token is None:
        client.cookies.clear()
    else:
        form["token"] = token
    assert client.post("/do", data=form, headers=SAME_ORIGIN).status_code == 403
    assert states() == ["parked"]


def test_the_cookie_is_for_this_site_alone_and_no_script_reads_it(client):
    cookie = client.get("/").headers["set-cookie"].lower()
    assert "samesite=strict" in cookie
    assert "httponly" in cookie


def test_a_form_that_is_too_large_is_refused(client):
    client.get("/")
    body = b"key=1&" * 200_000
    answer = client.post("/do", content=body, headers=SAME_ORIGIN)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/", "/do", "/nothing", "/static/pending.css", "/metrics"]
)
def test_every_answer_tells_the_browser_what_it_may_do(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_no_page_has_a_script_or_a_style_of_its_own(client):
    (row,) = parked(1)
    for path in ("/", f"/flag?flag={LABEL}", f"/row?flag={LABEL}&key={row.id}"):
        page = client.get(path).text
        assert not re.search(r"<script(?! src)|<style|\sstyle=|\son\w+=", page)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_read_only_shows_and_changes_nothing(client, monkeypatch):
    read_only = replace(actions.settings, dashboard_read_only=True)
    for module in (actions, rendering):
        monkeypatch.setattr(module, "settings", read_only)
    (row,) = parked(1)
    for path in ("/", f"/flag?flag={LABEL}", f"/row?flag={LABEL}&key={row.id}"):
        page = client.get(path)
        assert page.status_code == 200
        assert "confirm" not in page.text
    assert client.get(f"/confirm?verb=pause&flag={LABEL}").status_code == 403
    assert client.post("/do", headers=SAME_ORIGIN).status_code == 403
    assert states() == ["parked"]


def test_without_a_password_only_this_host_is_answered(client):
    assert client.get("/").status_code == 200
    for host in ("127.0.0.1:8008", "[::1]:8008", "app.localhost"):
        assert client_of(host=host).get("/").status_code == 200, host
    for stranger in (
        client_of(address="192.0.2.7"),
        client_of(host="evil.example"),  # a name that was bent to 127.0.0.1
        client_of(host="localhost.evil.example"),
    ):
        for path in ("/", "/metrics", "/status.json", "/static/pending.css"):
            answer = stranger.get(path)
            assert answer.status_code == 403
            assert "DASHBOARD_PASSWORD" in answer.text
        assert stranger.get("/healthz").text == "ok\n"
    proxied = client.get("/", headers={"x-forwarded-for": "192.0.2.7"})
    assert proxied.status_code == 403


@pytest.fixture
def with_password(monkeypatch):
    known = replace(
        guarding.settings, dashboard_user="ops", dashboard_password="geheim ü"
    )
    monkeypatch.setattr(guarding, "settings", known)
    monkeypatch.setattr(guarding, "_WRONG_PASSWORD_SECONDS", 0)


@pytest.mark.usefixtures("with_password")
def test_with_a_password_whoever_knows_it_is_answered_wherever_he_is(client, caplog):
    far = client_of(host="ops.example", address="192.0.2.7")
    asked = far.get("/")
    assert asked.status_code == 401
    assert asked.headers["www-authenticate"].startswith("Basic")
    for wrong in (("ops", "wrong"), ("other", "geheim ü"), ("", ""), ("ops", "")):
        assert far.get("/", auth=wrong).status_code == 401
    for header in ("Basic", "Basic !!!", "Bearer geheim", "Basic Og=="):
        assert far.get("/", headers={"authorization": header}).status_code == 401
    assert "login refused user=other" in caplog.text
    assert "geheim" not in caplog.text
    assert far.get("/healthz").status_code == 200
    right = ("ops", "geheim ü".encode())
    for path in ("/", "/metrics", "/status.json"):
        assert far.get(path, auth=right).status_code == 200
    assert far.post("/do", headers=SAME_ORIGIN).status_code == 401


@pytest.mark.usefixtures("with_password")
def test_the_log_says_who_did_what(client, caplog):
    caplog.set_level("INFO", "pending.operator")
    (row,) = parked(1)
    client.auth = ("ops", "geheim ü".encode())
    confirmed(client, "retry", flag=LABEL, key=row.id, state="parked")
    assert f"retried flag={LABEL} rows=1 by=ops (dashboard)" in caplog.text


def test_hostile_texts_stay_texts(client):
    (row,) = parked(1, error=HOSTILE)
    User.update(email=HOSTILE[:200]).where(User.id == row.id).execute()
    for path in (
        f"/flag?flag={LABEL}",
        f"/row?flag={LABEL}&key={row.id}",
        f"/flag?flag={LABEL}&where=error~%3Cscript%3E",
        "/flag?flag=%3Cscript%3Ealert(1)%3C/script%3E",
    ):
        page = client.get(path)
        assert "&lt;script&gt;" in page.text
        assert not re.search(r"<script(?! src)|<img|\x1b|\u202e", page.text)


@pytest.mark.usefixtures("operations")
@pytest.mark.parametrize(
    "key",
    ["\"'><b>&#39;/..//ä?x=1&y=%2f+ \u202e", "", " a", "../../etc", "</script>", "٣"],
)
def test_hostile_keys_stay_keys_and_can_be_retried(client, key):
    row = Page.create(path=key, needs_index=True)
    write(Page.needs_index, row, due=NEVER)
    label = Page.needs_index.label
    page = client.get("/flag", params={"flag": label})
    assert "<b>" not in page.text
    link = unescape(re.search(r'href="(/row[^"]+)"', page.text)[1])
    page = client.get(link)
    asks = unescape(re.search(r'href="(/confirm\?verb=retry[^"]*)"', page.text)[1])
    answer = client.post("/do", data=form_of(client.get(asks)), headers=SAME_ORIGIN)
    said = client.get(answer.headers["location"])
    assert "1 row retried" in text_of(said)


@pytest.mark.usefixtures("operations")
def test_every_database_has_its_pages(client):
    rows = [Order.create(needs_receipt=True, customer=f"c{n}") for n in range(3)]
    write(Order.needs_receipt, rows[0], due=NEVER, error="no paper")
    label = Order.needs_receipt.label
    assert "1 parked" in client.get("/").text
    page = client.get("/flag", params={"flag": label, "where": "customer=c0"})
    assert "no paper" in page.text
    said = confirmed(client, "retry", flag=label, state="parked", all=1)
    assert "1 row retried" in text_of(said)


@only("postgresql")
def test_a_search_that_takes_too_long_says_so_in_time(client, operations, monkeypatch):
    def listed(*_, **__):
        operations.execute_sql("SELECT pg_sleep(20)")

    monkeypatch.setattr(pages, "listed", listed)
    started = time.monotonic()
    page = client.get(
        "/flag", params={"flag": Order.needs_receipt.label, "where": "customer~x"}
    )
    assert "takes too long" in text_of(page)
    assert time.monotonic() - started < 5


@only("postgresql")
def test_a_database_that_hangs_is_unavailable_within_a_second(
    client, operations, session_database, monkeypatch
):
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.9)
    monkeypatch.setattr("worker.dashboard.machines._SCRAPE_SECONDS", 0.9)
    with session_database.atomic():
        for table in TABLES:
            name = table._meta.table_name
            session_database.execute_sql(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        for path in ("/", f"/flag?flag={Order.needs_receipt.label}", "/metrics"):
            started = time.monotonic()
            page = client.get(path)
            assert page.status_code == 503, path
            assert time.monotonic() - started < 1.5
        answer = client.get("/status.json")
        assert (answer.status_code, list(answer.json())) == (503, ["problem"])
    deadline = time.monotonic() + 20
    while client.get("/").status_code != 200:
        assert time.monotonic() < deadline


def test_threads_that_hang_are_few(client, monkeypatch):
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(asking, "_MOST", 2)
    go_on = threading.Event()
    monkeypatch.setattr("worker.dashboard.machines._moment", go_on.wait)
    before = threading.active_count()
    assert [client.get("/healthz").status_code for _ in range(6)] == [503] * 6
    hanging = [t for t in threading.enumerate() if t.name == "dashboard-question"]
    assert len(hanging) <= 2, before
    go_on.set()
    for thread in hanging:
        thread.join()
    assert client.get("/healthz").status_code == 200


def test_a_database_that_says_no_is_a_page_that_says_so(client, monkeypatch):
    def overview(of=None):
        raise peewee.OperationalError("no such table: <b>user</b>")

    monkeypatch.setattr(pages, "overview", overview)
    page = client.get("/")
    assert page.status_code == 503
    assert "pending migrate" in page.text
    assert "<b>user" not in page.text
    assert 'http-equiv="refresh"' in page.text  # it comes back by itself


def test_mounted_under_a_path_every_link_leads_there(client):
    parked(1)
    outer = Starlette(routes=[Mount("/ops/pending", app_without_login)])
    mounted = client_of(outer, host="shop.example", address="192.0.2.7")
    page = mounted.get("/ops/pending/")
    assert page.status_code == 200
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
    assert links
    assert all(link.startswith("/ops/pending/") for link in links)
    for link in {unescape(one) for one in links}:
        assert mounted.get(link).status_code == 200, link
    assert "path=/ops/pending" in page.headers["set-cookie"].lower()
    prefix = "/ops/pending"
    query = {"verb": "retry", "flag": LABEL, "state": "parked", "all": 1}
    form = form_of(mounted.get(f"{prefix}/confirm", params=query))
    answer = mounted.post(f"{prefix}/do", data=form, headers=SAME_ORIGIN)
    assert "1 row retried" in mounted.get(answer.headers["location"]).text


def test_mounted_with_its_own_login_it_still_refuses_strangers(client):
    outer = Starlette(routes=[Mount("/ops", app)])
    assert client_of(outer, host="shop.example").get("/ops/").status_code == 403
    assert client_of(outer).get("/ops/").status_code == 200
    assert client_of(outer, host="shop.example").get("/ops/healthz").status_code == 200


def over_wsgi(address, body=b"", **environ):
    """Ask what is mounted under `/ops` of a WSGI site: status, headers, text."""
    path, _, query = address.partition("?")
    started = []
    chunks = ASGIMiddleware(app_without_login)(
        {
            "REQUEST_METHOD": "POST" if body else "GET",
            "SCRIPT_NAME": "/ops",
            "PATH_INFO": path.removeprefix("/ops"),
            "QUERY_STRING": query,
            "SERVER_NAME": "shop.example",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "shop.example",
            "REMOTE_ADDR": "192.0.2.7",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            **environ,
        },
        lambda status, headers, *_: started.append((status, dict(headers))),
    )
    text = b"".join(chunks).decode()
    ((status, headers),) = started
    return status, headers, text


def test_a_wsgi_application_can_have_it_too(client, caplog):
    caplog.set_level("INFO", "pending.operator")
    (row,) = parked(1)
    status, _, text = over_wsgi("/ops/")
    assert status == "200 OK"
    assert f'href="/ops/flag?flag={LABEL}"' in text
    assert over_wsgi("/ops/static/pending.css")[0] == "200 OK"
    question = f"/ops/confirm?verb=retry&flag={LABEL}&state=parked&key={row.id}"
    _, headers, text = over_wsgi(question)
    assert 'action="/ops/do"' in text
    cookie = headers["set-cookie"]
    assert "path=/ops;" in cookie.lower()
    form = urlencode(form_of(SimpleNamespace(text=text)), doseq=True).encode()
    status, headers, _ = over_wsgi(
        "/ops/do",
        form,
        HTTP_COOKIE=cookie.partition(";")[0],
        HTTP_ORIGIN="http://shop.example",
        REMOTE_USER="dan",
    )
    assert status.startswith("303")
    assert headers["location"].startswith("/ops/row?")
    assert states() == ["due"]
    assert "rows=1 by=dan (dashboard)" in caplog.text


def test_the_user_of_the_application_around_it_is_who(client, caplog):
    class Known:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            scope["user"] = SimpleUser("eve")
            await self.app(scope, receive, send)

    caplog.set_level("INFO", "pending.operator")
    (row,) = parked(1)
    known = client_of(Known(app_without_login))
    confirmed(known, "unmark", flag=LABEL, key=row.id, state="parked")
    assert "rows=1 by=eve (dashboard)" in caplog.text


def test_it_listens_elsewhere_only_with_a_password():
    assert problem_of("127.0.0.1") == problem_of("localhost") == problem_of("::1") == ""
    assert "DASHBOARD_USER" in problem_of("0.0.0.0")
    assert "DASHBOARD_USER" in problem_of("192.0.2.1")
    result = pending("dashboard", "--host", "0.0.0.0")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "DASHBOARD_PASSWORD" in result.stderr


def test_without_its_packages_the_command_says_which():
    code = """
import sys
sys.modules["starlette"] = None
from worker.cli import main
main()
"""
    result = run_python(code, "dashboard")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "Error: starlette is missing; pip install 'pending-flags[dashboard]'"
    ]
    assert "user.needs" in run_python(code, "status").stdout


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = pending("dashboard", PORT=port)
    assert result.returncode == 1
    assert result.stderr.strip().endswith("set PORT to another")


def noted(minute, name, n):
    Count.create(flag=LABEL, minute=minute, name=name, n=n)


@pytest.mark.usefixtures("operations")
def test_the_last_hours_are_read_once_and_then_what_is_new():
    this = operations_now() // 60_000
    now = instant(this * 60_000 + 30_000)
    for back, n in ((200, 7), (100, 5), (10, 3), (1, 2)):
        noted(this - back, "finished", n)
    history._known.clear()
    first = history.history([LABEL], now=now)[LABEL]
    assert [one.counts["finished"] for one in first] == [5, 3, 2]
    Count.update(n=4).where(Count.minute == this - 1).execute()
    Count.delete().where(Count.minute == this - 100).execute()  # it is known already
    noted(this, "finished", 1)
    later = history.history([LABEL], now=now)[LABEL]
    assert [one.counts["finished"] for one in later] == [5, 3, 4, 1]
    history._known.clear()


def test_a_chart_s_bars_are_as_high_as_their_numbers():
    now = instant(10**12 // 60_000 * 60_000)
    minute = timedelta(minutes=1)
    counts = [Counter(finished=30, due=4), Counter(finished=60, due=8)]
    of = [
        Minute(now - 100 * minute, counts[0] + Counter({"wait:1000": 1})),
        Minute(now - 1 * minute, counts[1] + Counter({"wait:5": 1})),
        Minute(now, Counter(finished=10**6)),  # it is not over
    ]
    due, finished, waits = charts.charts(of, now=now)
    assert (due.peak, finished.peak) == ("8", "20")
    assert re.findall(r"M(\d+) ([\d.]+)", finished.path) == [
        ("104", "20.0"),
        ("236", "0.0"),
    ]
    assert "20 at most" in finished.text
    assert waits.path.count("M") == 2
    assert charts.bars([0, 0]) == charts.bars([]) == ""
