"""The example: one welcome a mark, and what becomes of refused addresses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy

import pytest
from looking import IDLE, state, write
from postbox import Mailbox, free_port, smtp_server
from steps import claim_one

from models import NEVER, User
from models.connection import connected
from models.finishing import finish, release
from models.marking import mark_pending
from worker import kick, mailing, welcome
from worker.welcome import send_welcome_email, welcome_message

FLAG = User.needs_welcome_email


@pytest.fixture(autouse=True)
def outbox(tmp_path, monkeypatch):
    """The place of the mails, and a connection; nobody is signed up."""
    monkeypatch.setattr(mailing, "OUTBOX", tmp_path)
    with connected(User._meta.database):
        User.delete().execute()
        yield tmp_path
        User.delete().execute()


@pytest.fixture
def mailbox(monkeypatch):
    mailbox = Mailbox()
    with smtp_server(mailbox, free_port()) as url:
        changed = replace(mailing.settings, smtp_url=url)
        monkeypatch.setattr(mailing, "settings", changed)
        yield mailbox


def claimed(email="dan@example.com"):
    User.create(email=email, needs_welcome_email=True)
    return claim_one(FLAG)


def mails(outbox):
    files = sorted(outbox.glob("*.eml"))
    return [
        message_from_bytes(file.read_bytes(), policy=policy.default) for file in files
    ]


def test_a_user_who_signed_up_is_welcomed(outbox):
    user = User.create(email="dan@example.com", needs_welcome_email=True)
    before = datetime.now(UTC).replace(tzinfo=None)
    kick(FLAG.label)
    (mail,) = mails(outbox)
    assert (mail["To"], mail["Subject"]) == ("dan@example.com", "Welcome!")
    assert "dan@example.com" in mail.get_content()
    assert state(FLAG, user) == IDLE
    later = datetime.now(UTC).replace(tzinfo=None)
    assert before <= User.get().welcomed_at <= later


ODD = "a.very_odd!#$%&'*/=?^`{|}~-one"


@pytest.mark.parametrize(
    ("email", "recipient"),
    [
        ("jörg@example.com", "jörg@example.com"),
        ("dan@bücher.example", "dan@xn--bcher-kva.example"),
        ("用户@例子.广告", "用户@xn--fsqu00a.xn--4rr70v"),
        ("o'neil+tag@example.com", "o'neil+tag@example.com"),
        (f"{ODD}@example.com", f"{ODD}@example.com"),
    ],
)
def test_every_address_that_may_sign_up_is_welcomed(mailbox, email, recipient):
    User.create(email=email, needs_welcome_email=True)
    kick(FLAG.label)
    assert mailbox.attempts == {recipient: 1}
    assert mailbox.per_address() == {recipient: 1}
    assert User.get().welcomed_at


def test_a_second_attempt_of_a_mark_has_the_same_message_id():
    first = claimed()
    before = welcome_message(first.row)["Message-ID"]
    release(first, wait=timedelta(0), error="x")
    second = claim_one(FLAG)
    assert second.attempt == 2
    assert welcome_message(second.row)["Message-ID"] == before


def test_another_mark_has_another_message_id():
    first = claimed()
    before = welcome_message(first.row)["Message-ID"]
    finish(first)
    mark_pending(first.row, FLAG)
    assert welcome_message(claim_one(FLAG).row)["Message-ID"] != before


def test_the_mails_of_two_users_have_different_message_ids():
    one, other = claimed("dan@example.com"), claimed("eve@example.com")
    ids = {welcome_message(held.row)["Message-ID"] for held in (one, other)}
    assert len(ids) == 2


def test_the_message_id_is_of_the_sender_s_domain(monkeypatch):
    sender = replace(welcome.settings, mail_from="Shop <shop@shop.example>")
    monkeypatch.setattr(welcome, "settings", sender)
    message = welcome_message(claimed().row)
    assert message["From"] == "Shop <shop@shop.example>"
    assert message["Message-ID"].endswith("@shop.example>")


def test_an_address_that_is_refused_for_good_is_parked_at_once(mailbox):
    user = User.create(email="gone@example.com", needs_welcome_email=True)
    mailbox.refuse = lambda address: "550 no such user"
    kick(FLAG.label)
    after = state(FLAG, user)
    assert (after.due, after.attempts) == (NEVER, 1)
    assert after.error == "gone@example.com was refused: 550 no such user"
    assert User.get().welcomed_at is None


def test_an_address_that_is_refused_for_now_is_tried_again(mailbox):
    user = User.create(email="busy@example.com", needs_welcome_email=True)
    mailbox.refuse = lambda address: "450 try later"
    kick(FLAG.label)
    after = state(FLAG, user)
    assert (after.flag, after.attempts, after.due < NEVER) == (True, 1, True)
    assert "450" in after.error
    mailbox.refuse = lambda address: None
    write(FLAG, user, due=0)
    kick(FLAG.label)
    assert state(FLAG, user) == IDLE
    assert mailbox.per_address() == {"busy@example.com": 1}


def test_one_refused_address_keeps_no_other_from_its_mail(mailbox):
    for name in ("ann", "bob", "cid"):
        User.create(email=f"{name}@example.com", needs_welcome_email=True)
    mailbox.refuse = lambda address: "550 no" if address.startswith("bob") else None
    kick(FLAG.label)
    assert mailbox.per_address() == {"ann@example.com": 1, "cid@example.com": 1}


@pytest.mark.parametrize(
    "email",
    [
        "dan@example.com\nBcc: eve@example.com",
        "dan@example.com\r\n\r\nBuy!",
        "dan\n@example.com",
        "dan@example.com, eve@example.com",
        "dan@example.com> <eve@example.com",
    ],
)
def test_an_address_from_raw_sql_injects_no_header_and_no_recipient(mailbox, email):
    User.create(email=email, needs_welcome_email=True)
    kick(FLAG.label)
    assert len(mailbox.attempts) <= 1
    assert not {"dan@example.com", "eve@example.com"} & set(mailbox.attempts)
    assert all("Bcc" not in mail for mail in mailbox.mails)


@pytest.mark.parametrize("email", ["nonsense", "@example.com", "dan@", ""])
def test_what_is_no_address_at_all_is_parked_at_once(mailbox, email):
    user = User.create(email=email, needs_welcome_email=True)
    kick(FLAG.label)
    after = state(FLAG, user)
    assert (after.due, after.error) == (NEVER, f"{email!r} is no address")
    assert mailbox.attempts == {}


def test_a_welcome_that_failed_leaves_no_date(mailbox):
    held = claimed()
    mailbox.refuse = lambda address: "451 no"
    with pytest.raises(Exception, match="451"):
        send_welcome_email(held.row)
    assert held.row.welcomed_at is None
