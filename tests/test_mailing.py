"""Mails over a real SMTP server, and what its answers mean; or into the outbox."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from urllib.parse import quote

import pytest
import trustme
from aiosmtpd.smtp import AuthResult
from listeners import silent_server
from postbox import Mailbox, free_port, smtp_server

from worker import mailing
from worker.mailing import Refused, send

NOT_NOW = (smtplib.SMTPException, OSError)


class Moody(Mailbox):
    """Answers to the mail itself, and to QUIT, as it is told."""

    data = quit = None

    async def handle_DATA(self, server, session, envelope):
        return self.data or await super().handle_DATA(server, session, envelope)

    async def handle_QUIT(self, server, session, envelope):
        return self.quit or "221 Bye"


@pytest.fixture
def mailbox():
    return Moody()


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def serve(mailbox, use):
    """Return a function that has mails sent to a server with these options."""
    servers = []

    def start(**options):
        server = smtp_server(mailbox, free_port(), **options)
        url = server.__enter__()
        servers.append(server)
        use(url)
        return url

    yield start
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def use(monkeypatch):
    """Return a function that sets SMTP_URL."""

    def set_url(url):
        changed = replace(mailing.settings, smtp_url=url)
        monkeypatch.setattr(mailing, "settings", changed)

    return set_url


def certificate(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def trusting(url, authority, folder):
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return f"{url}?cafile={quote(str(path))}"


def mail(to="dan@example.com", text="Welcome!\n"):
    message = EmailMessage()
    message["From"], message["To"] = "Shop <shop@example.com>", to
    message["Message-ID"] = "<1@example.com>"
    message.set_content(text)
    return message


def test_a_mail_is_handed_over(serve, mailbox):
    serve()
    send(mail(text="Grüße\n.\n"))
    (arrived,) = mailbox.mails
    assert (arrived["To"], arrived["From"]) == (
        "dan@example.com",
        "Shop <shop@example.com>",
    )
    assert arrived.get_content().splitlines() == ["Grüße", "."]


@pytest.mark.parametrize("code", [500, 550, 554])
def test_a_recipient_refused_for_good_is_refused(serve, mailbox, code):
    serve()
    mailbox.refuse = lambda address: f"{code} no such user"
    with pytest.raises(Refused, match=f"^{code} no such user$"):
        send(mail())
    assert mailbox.mails == []


def test_a_mail_refused_for_good_is_refused(serve, mailbox):
    serve()
    mailbox.data = "554 this is spam"
    with pytest.raises(Refused, match=r"^554 this is spam$"):
        send(mail())


@pytest.mark.parametrize("code", [421, 450, 451, 452])
def test_a_temporary_refusal_may_be_tried_again(serve, mailbox, code):
    serve()
    mailbox.refuse = lambda address: f"{code} not now"
    with pytest.raises(NOT_NOW):
        send(mail())
    mailbox.refuse, mailbox.data = lambda address: None, f"{code} not now"
    with pytest.raises(NOT_NOW):
        send(mail())
    mailbox.data = None
    send(mail())
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("answer", ["421 too late", "500 what?", "250 fine"])
def test_a_mail_that_was_taken_is_sent_whatever_the_goodbye(serve, mailbox, answer):
    """Else the same mail would be sent again."""
    serve()
    mailbox.quit = answer
    send(mail())
    assert len(mailbox.mails) == 1


def test_a_refusal_is_told_whatever_the_goodbye(serve, mailbox):
    serve()
    mailbox.refuse, mailbox.quit = lambda address: "550 nobody", "421 bye"
    with pytest.raises(Refused):
        send(mail())


def test_where_nobody_listens_the_mail_waits(use):
    use(f"smtp://127.0.0.1:{free_port()}")
    with pytest.raises(OSError, match="refused"):
        send(mail())


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_server_that_never_answers_holds_nobody_for_long(use, monkeypatch, scheme):
    monkeypatch.setattr(mailing, "_SECONDS", 0.1)
    with silent_server() as server:
        use(f"{scheme}://127.0.0.1:{server.port}")
        with pytest.raises(NOT_NOW, match="timed out"):
            send(mail())


def test_starttls_is_used_where_it_is_offered(serve, mailbox, use, authority, tmp_path):
    url = serve(tls_context=certificate(authority), require_starttls=True)
    use(trusting(url, authority, tmp_path))
    send(mail())
    assert len(mailbox.mails) == 1


def test_a_server_with_a_stranger_s_certificate_gets_no_mail(
    serve, mailbox, use, authority, tmp_path
):
    url = serve(tls_context=certificate(authority))
    use(trusting(url, trustme.CA(), tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError):
        send(mail())
    assert mailbox.mails == []


def test_starttls_can_be_declined(serve, mailbox, use, authority):
    use(f"{serve(tls_context=certificate(authority))}?starttls=no")
    send(mail())
    assert len(mailbox.mails) == 1


def test_starttls_that_is_wished_and_not_offered_fails(serve, mailbox, use):
    use(f"{serve()}?starttls=yes")
    with pytest.raises((*NOT_NOW, Refused)):
        send(mail())
    assert mailbox.mails == []


def test_smtps_is_tls_from_the_first_byte(serve, mailbox, use, authority, tmp_path):
    url = serve(ssl_context=certificate(authority))
    use(trusting(url.replace("smtp:", "smtps:"), authority, tmp_path))
    send(mail())
    assert len(mailbox.mails) == 1


def test_name_and_password_of_the_url_log_in(serve, mailbox, use, authority, tmp_path):
    given = []

    def check(server, session, envelope, mechanism, data):
        given.append((data.login.decode(), data.password.decode()))
        known = given[-1] == ("dan@shop", "p:w/d @")
        return AuthResult(success=known, handled=known)

    url = serve(
        tls_context=certificate(authority), auth_required=True, authenticator=check
    )
    login = f"{quote('dan@shop', safe='')}:{quote('p:w/d @', safe='')}@"
    use(trusting(url.replace("//", f"//{login}"), authority, tmp_path))
    send(mail())
    assert len(mailbox.mails) == 1
    use(trusting(url.replace("//", "//dan:wrong@"), authority, tmp_path))
    with pytest.raises(smtplib.SMTPAuthenticationError):
        send(mail())
    assert len(mailbox.mails) == 1


def test_an_address_beyond_ascii_is_sent_as_it_is(serve, mailbox):
    serve()
    send(mail(to="jörg@bücher.example"))
    assert mailbox.attempts == {"jörg@bücher.example": 1}


def test_an_address_that_the_server_cannot_write_is_refused(serve, mailbox):
    serve(enable_SMTPUTF8=False)
    with pytest.raises(Refused, match="SMTPUTF8"):
        send(mail(to="jörg@bücher.example"))


def test_without_a_server_mails_become_files(use, tmp_path, monkeypatch):
    use(None)
    monkeypatch.setattr(mailing, "OUTBOX", tmp_path / "var" / "outbox")
    send(mail(text="Grüße\n"))
    send(mail(text="Grüße\n"))  # the same mail once more: the same file
    (path,) = mailing.OUTBOX.iterdir()
    assert path.name == "dan@example.com-1@example.com.eml"
    kept = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert kept["To"] == "dan@example.com"
    assert kept.get_content().strip() == "Grüße"


@pytest.mark.parametrize(
    "address", ["../../etc/passwd@example.com", f"{'ü' * 300}@x.com", "a/b@x.com"]
)
def test_no_address_leads_out_of_the_outbox(use, tmp_path, monkeypatch, address):
    use(None)
    monkeypatch.setattr(mailing, "OUTBOX", tmp_path / "outbox")
    send(mail(to=address))
    assert [path.parent for path in tmp_path.rglob("*.eml")] == [mailing.OUTBOX]
