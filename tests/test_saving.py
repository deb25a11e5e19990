"""Step 1 by peewee's own means: whatever writes a flag writes the transition."""

from __future__ import annotations

import pytest
from domain import FLAGS, Order
from looking import IDLE, is_freshly_marked, state, write
from playhouse.shortcuts import model_to_dict
from steps import claim_one, marked_and_claimed

from models.finishing import finish
from models.marking import mark_pending

FLAG = Order.needs_receipt


@pytest.mark.parametrize("kind", FLAGS)
def test_a_row_created_with_its_flag_is_due_at_once(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    setattr(row, flag.name, True)
    row.save(force_insert=True)
    assert state(flag, row).at == state(flag, row).due > 0
    assert claim_one(flag).attempt == 1


@pytest.mark.parametrize("kind", FLAGS)
def test_a_row_created_with_its_flag_rings_the_bell(database, kind, bells):
    flag, new = FLAGS[kind]
    row = new()
    setattr(row, flag.name, True)
    row.save(force_insert=True)
    assert bells == [flag.label]


@pytest.mark.parametrize("kind", FLAGS)
def test_assigning_true_and_saving_is_a_mark(database, kind):
    flag, new = FLAGS[kind]
    row = new()
    row.save(force_insert=True)
    row = type(row).get()
    setattr(row, flag.name, True)
    assert row.save() == 1
    assert is_freshly_marked(flag, row)


def test_assigning_true_again_is_a_mark_of_its_own(database):
    row = Order.create(needs_receipt=True)
    claim_one(FLAG)
    row = Order.get()
    row.needs_receipt = True
    row.save()
    assert state(FLAG, row).attempts == -1


def test_assigning_false_over_true_is_an_unmark(database):
    Order.create(needs_receipt=True)
    row = Order.get()
    row.needs_receipt = False
    row.save()
    assert state(FLAG, row) == IDLE


def test_assigning_false_to_a_flag_loaded_as_false_is_nothing(database):
    Order.create()
    row = Order.get()
    mark_pending(Order.get(), FLAG)
    row.needs_receipt = False
    assert not row.is_dirty()
    row.customer = "eve"
    row.save()
    assert is_freshly_marked(FLAG, row)


def test_true_and_then_false_before_the_save_takes_the_assignment_back(database):
    Order.create()
    row = Order.get()
    row.needs_receipt = True
    row.needs_receipt = False
    row.save()
    assert state(FLAG, row) == IDLE


@pytest.mark.parametrize("value", [1, 0, None, "yes", ""])
def test_what_is_assigned_is_made_a_truth_value(database, value):
    row = Order(needs_receipt=value)
    assert row.needs_receipt is bool(value)
    row.save()
    assert state(FLAG, row).flag is bool(value)


def test_an_article_s_handler_that_clears_its_own_flag_is_done(database):
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    held.row.needs_receipt = False
    held.row.save()
    assert finish(held)
    assert state(FLAG, row) == IDLE


# Rows that were loaded earlier.


def test_a_stale_instance_erases_no_mark(database):
    Order.create()
    stale = Order.get()
    mark_pending(Order.get(), FLAG)
    stale.customer = "eve"
    stale.save()
    assert is_freshly_marked(FLAG, stale)


def test_a_stale_instance_resurrects_no_mark(database):
    row = Order.create(needs_receipt=True)
    stale = Order.get()
    assert finish(claim_one(FLAG))
    stale.customer = "eve"
    stale.save()
    assert state(FLAG, row) == IDLE


def test_a_copy_of_a_claimed_row_has_no_companions(database):
    """Neither the constructor, nor create() of what model_to_dict() gives."""
    row = Order.create()
    held = marked_and_claimed(FLAG, row)
    assert held.row.needs_receipt_lease == held.token
    data = model_to_dict(held.row)
    del data["id"]
    copy = Order.create(**data)
    assert is_freshly_marked(FLAG, copy)
    assert state(FLAG, copy).lease is None


def test_a_dictionary_of_a_row_has_no_companion_values(database):
    Order.create(needs_receipt=True)
    data = model_to_dict(Order.get())
    companions = {key for key in data if key.startswith(("needs_receipt_",))}
    assert not {key: data[key] for key in companions if data[key] is not None}
    assert data["needs_receipt"] is True


def test_a_saved_row_keeps_the_companions_that_others_wrote(database):
    row = Order.create(needs_receipt=True)
    loaded = Order.get()
    write(FLAG, row, due=5, attempts=3, crashes=2, error="x")
    before = state(FLAG, row)
    loaded.total = 2
    loaded.save()
    assert state(FLAG, row) == before


def test_a_row_saved_by_its_key_alone_erases_no_flag(database):
    row = Order.create(needs_receipt=True)
    Order(id=row.id, customer="eve").save()
    assert is_freshly_marked(FLAG, row)
