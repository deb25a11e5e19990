"""The environment: defaults, what each variable means, and every refusal."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pendulum
import pytest
from python import run_python

from models import BadSetting
from worker.settings import settings_from

SUNDAYS = ["0 0 * * 0", "0 0 * * 7", "0 0 * * sun", "0 0 * * SUN", "@weekly"]
SATURDAY, SUNDAY = pendulum.datetime(2026, 8, 1), pendulum.datetime(2026, 8, 2)


def test_an_empty_environment_has_defaults(monkeypatch, tmp_path):
    monkeypatch.setattr("worker.settings.SOCKET", tmp_path / "none.sock")
    settings = settings_from({})
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.redis_namespace == "dramatiq"
    assert settings.lease == timedelta(seconds=30)
    assert settings.sweep_every == timedelta(seconds=5)
    assert str(settings.sweep_cron) == "* * * * *"
    assert settings.smtp_url is None
    assert "@" in settings.mail_from


def test_without_redis_url_the_embedded_server_is_found_by_its_socket(
    monkeypatch, tmp_path
):
    socket = tmp_path / "redis.sock"
    socket.touch()
    monkeypatch.setattr("worker.settings.SOCKET", socket)
    assert settings_from({}).redis_url == f"unix://{socket}"
    assert settings_from({"REDIS_URL": "redis://r"}).redis_url == "redis://r"


def test_a_variable_that_is_empty_counts_as_unset():
    names = ["REDIS_NAMESPACE", "LEASE_SECONDS", "SWEEP_CRON", "SMTP_URL", "MAIL_FROM"]
    assert settings_from(dict.fromkeys(names, "")) == settings_from({})


def test_each_variable_is_read():
    settings = settings_from(
        {
            "REDIS_URL": "rediss://user:word@redis.example.com:6380/3",
            "REDIS_NAMESPACE": "shop",
            "LEASE_SECONDS": "2.5",
            "SWEEP_SECONDS": "0.1",
            "SWEEP_CRON": "@hourly",
            "SMTP_URL": "smtps://user:word@mail.example.com",
            "MAIL_FROM": "Shop <shop@example.com>",
        }
    )
    assert settings.redis_url == "rediss://user:word@redis.example.com:6380/3"
    assert settings.redis_namespace == "shop"
    assert settings.lease == timedelta(seconds=2.5)
    assert settings.sweep_every == timedelta(seconds=0.1)
    assert settings.sweep_expires == timedelta(minutes=40)
    assert settings.smtp_url == "smtps://user:word@mail.example.com"
    assert settings.mail_from == "Shop <shop@example.com>"


def test_settings_do_not_change():
    settings = settings_from({})
    with pytest.raises(FrozenInstanceError):
        settings.lease = timedelta(0)


@pytest.mark.parametrize(
    "spec",
    [
        "nonsense",
        "@nonsense",
        "99 * * * *",
        "* 24 * * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * *",
        "* * * * * *",
        "@hourly 5",
        "*/0 * * * *",
        "5-1 * * * *",
        "-1 * * * *",
        "a * * * *",
    ],
)
def test_what_is_no_cron_spec_is_refused(spec):
    with pytest.raises(BadSetting) as refusal:
        settings_from({"SWEEP_CRON": spec})
    expected = f"SWEEP_CRON: {spec!r} is no cron spec; write five fields, as in"
    assert str(refusal.value) == f"{expected} '*/5 * * * *'"


def test_a_cron_spec_that_never_comes_is_refused():
    with pytest.raises(BadSetting) as refusal:
        settings_from({"SWEEP_CRON": "0 0 31 2 *"})
    assert str(refusal.value) == "SWEEP_CRON: '0 0 31 2 *' never comes"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        *(
            ("LEASE_SECONDS", value, f"{value!r} is no number of seconds from 1 on")
            for value in ("abc", "nan", "inf", "0", "-1", "0.9", "1e300")
        ),
        *(
            ("SWEEP_SECONDS", value, f"{value!r} is no number of seconds from 0.1 on")
            for value in ("soon", "nan", "0")
        ),
        *(
            (
                "REDIS_URL",
                value,
                f"{value!r} is no Redis URL; write redis://host:6379/0 or unix:///path",
            )
            for value in (
                "foo",
                "http://r",
                "redis://r:x",
                "redis://r?socket_timeout=x",
            )
        ),
        *(
            (
                "SMTP_URL",
                value,
                f"{value!r} is no SMTP URL; write smtp://user:password@host:587",
            )
            for value in ("foo", "http://m", "smtp://m:x", "smtp://m:99999")
        ),
        *(
            ("PORT", value, f"{value!r} is no port; write a number up to 65535")
            for value in ("x", "-1", "65536", "8.0")
        ),
        ("DASHBOARD_USER", "x", "set both, DASHBOARD_USER and DASHBOARD_PASSWORD"),
        ("DASHBOARD_READ_ONLY", "x", "'x' is neither yes nor no; write 1 or 0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_write(name, value, problem):
    with pytest.raises(BadSetting) as refusal:
        settings_from({name: value})
    assert str(refusal.value) == f"{name}: {problem}"


@pytest.mark.parametrize("name", ["REDIS_URL", "SMTP_URL", "DATABASE_URL"])
def test_a_refusal_does_not_tell_the_password(name):
    ended = run_python("import worker", **{name: "http://dan:secret@host:x/"})
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"{name}: ")
    assert "secret" not in ended.stderr


@pytest.mark.parametrize("spec", SUNDAYS)
def test_sunday_comes_every_sunday_and_on_no_other_day(spec):
    """periodiq counts it as 0 when it plans and as 7 when it checks."""
    cron = settings_from({"SWEEP_CRON": spec}).sweep_cron
    days = [SATURDAY.add(days=n) for n in range(28)]
    assert [day for day in days if cron.validate(day)] == days[1::7]
    assert cron.next_valid_date(SATURDAY) == SUNDAY
    assert cron.next_valid_date(SUNDAY) == SUNDAY.add(days=7)
    assert cron.next_valid_date(SUNDAY.subtract(minutes=1)) == SUNDAY
    assert str(cron) == spec


def test_sunday_among_other_days_comes_too():
    cron = settings_from({"SWEEP_CRON": "0 0 * * 0,3"}).sweep_cron
    days = [SATURDAY.add(days=n) for n in range(8)]
    assert [day.isoweekday() for day in days if cron.validate(day)] == [7, 3]


@pytest.mark.parametrize("spec", ["0 0 * * *", "0 0 * * 0-6", "0 0 * * 1-7"])
def test_all_days_are_no_restriction(spec):
    cron = settings_from({"SWEEP_CRON": spec}).sweep_cron
    day = SATURDAY
    for _ in range(8):
        assert cron.validate(day)
        assert cron.next_valid_date(day) == day.add(days=1)
        day = day.add(days=1)


@pytest.mark.parametrize(
    ("spec", "expires"),
    [
        ("* * * * *", timedelta(seconds=40)),
        ("*/15 * * * *", timedelta(minutes=10)),
        ("@hourly", timedelta(minutes=40)),
        ("@daily", timedelta(hours=16)),
        ("0 9,12,21 * * *", timedelta(hours=2)),
        ("0 0 29 2 *", timedelta(days=1461) * 2 / 3),
    ],
)
def test_a_sweep_expires_after_two_thirds_of_the_time_to_the_next(spec, expires):
    assert settings_from({"SWEEP_CRON": spec}).sweep_expires == expires


@pytest.mark.parametrize("minute", [0, 3, 30, 50, 59])
def test_the_shortest_time_between_sweeps_is_found_at_any_time_of_day(
    monkeypatch, minute
):
    """0, 5, …, 50 and 51: there is one short gap an hour."""
    now = pendulum.datetime(2026, 8, 1, 12, minute)
    monkeypatch.setattr("pendulum.now", lambda zone: now)
    spec = f"{','.join(map(str, range(0, 51, 5)))},51 * * * *"
    expires = settings_from({"SWEEP_CRON": spec}).sweep_expires
    assert expires == timedelta(seconds=40)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SWEEP_CRON", "nonsense"),
        ("LEASE_SECONDS", "abc"),
        ("REDIS_URL", "foo"),
        ("SMTP_URL", "foo"),
        ("DATABASE_URL", "foo"),
    ],
)
def test_a_bad_setting_ends_the_process_with_one_line(name, value):
    ended = run_python("import worker", **{name: value})
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"{name}: {value!r} ")


@pytest.mark.parametrize("sender", ["nobody", "Dan", "Dan <dan>"])
def test_a_sender_needs_an_address(sender):
    with pytest.raises(BadSetting, match="MAIL_FROM"):
        settings_from({"MAIL_FROM": sender})


def test_the_dashboard_s_user_and_password_come_together_and_stay_secret():
    with pytest.raises(BadSetting, match="set both"):
        settings_from({"DASHBOARD_PASSWORD": "geheim"})
    given = {"DASHBOARD_USER": "ops", "DASHBOARD_PASSWORD": "geheim"}
    settings = settings_from({**given, "DASHBOARD_READ_ONLY": "1"})
    assert (settings.dashboard_user, settings.dashboard_password) == ("ops", "geheim")
    assert settings.dashboard_read_only
    assert "geheim" not in repr(settings)
    with pytest.raises(BadSetting, match="colon"):
        settings_from({**given, "DASHBOARD_USER": "a:b"})
