"""A flag that was renamed: one flag, whichever name it is called by."""

from __future__ import annotations

import peewee
import pytest
from looking import IDLE, is_freshly_marked, state
from steps import claim_one

from models import PendingFlag, PendingModel
from models.finding import flag_named
from models.finishing import finish, park
from models.marking import mark_pending


class Old(PendingModel):
    """As old code has it."""

    name = peewee.CharField(default="")
    needs_stamp = PendingFlag()

    class Meta:
        table_name = "letter"


class New(PendingModel):
    """As new code has it."""

    name = peewee.CharField(default="")
    needs_postage = PendingFlag(was="needs_stamp")

    class Meta:
        table_name = "letter"


OLD, NEW = Old.needs_stamp, New.needs_postage


@pytest.fixture
def letter(database):
    """The key of a row in a table that old code has made."""
    with database.bind_ctx([Old, New]):
        Old.create_table()
        try:
            yield Old.create().id
        finally:
            Old.drop_table()


def test_what_outlives_the_code_keeps_the_old_name(letter):
    assert [f.column_name for f in NEW.columns.values()] == [
        f.column_name for f in OLD.columns.values()
    ]
    assert NEW.label == OLD.label
    assert NEW.new_label == OLD.label.replace("needs_stamp", "needs_postage")
    mark_pending(Old.get(), OLD)
    assert NEW.key_of_mark(New.get()) == OLD.key_of_mark(Old.get())


@pytest.mark.parametrize("label", [NEW.label, NEW.new_label])
def test_commands_know_both_labels(label):
    assert flag_named(label, [NEW]) is NEW


@pytest.mark.parametrize("name", ["needs_stamp", "needs_postage"])
def test_a_row_answers_to_both_names(letter, name):
    row = New.get()
    setattr(row, name, True)
    assert row.needs_stamp is row.needs_postage is True
    row.save()
    assert is_freshly_marked(OLD, Old.get())
    held = claim_one(NEW)
    park(held, error="no stamps")
    row = New.get()
    assert row.needs_stamp_error == row.needs_postage_error == "no stamps"


@pytest.mark.parametrize("name", ["needs_stamp", "needs_postage"])
def test_every_way_of_writing_takes_both_names(letter, name):
    made = New.create(**{name: True})
    assert is_freshly_marked(OLD, Old.get_by_id(made.id))
    New.update(**{name: True}).where(New.id == letter).execute()
    assert is_freshly_marked(OLD, Old.get_by_id(letter))
    (key,) = [row.id for row in New.select().where(New.needs_stamp, New.id == letter)]
    assert key == letter
    New.insert(**{name: True}).execute()
    assert New.select().where(NEW).count() == 3


def test_a_mark_by_the_other_name_while_it_is_handled_is_one_more_run(letter):
    """So the lease is one, too: never do both run at the same time."""
    mark_pending(New.get(), NEW)
    held = claim_one(OLD)
    mark_pending(New.get(), NEW)
    assert finish(held)
    assert finish(claim_one(NEW))
    assert state(OLD, Old.get()) == IDLE


def test_a_model_that_derives_answers_to_both_names_of_its_own_flag():
    class Parcel(New):
        pass

    assert Parcel.needs_stamp is Parcel.needs_postage
    assert Parcel.needs_postage.model is Parcel
