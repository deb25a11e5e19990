"""Old and new code side by side, in real processes: what either marks is done, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from house import House, end
from waiting import wait_for

KINDS = ("sqlite", "postgresql", "mysql")

BEFORE = """
from peewee import CharField
from models import PendingFlag, PendingModel
from worker import handles

class Order(PendingModel):
    name = CharField()
    done = CharField(default="")
"""

OLD = f"""{BEFORE}
    needs_receipt = PendingFlag()

@handles(Order.needs_receipt)
def send(order):
    order.done += "old "
"""

RENAMED = f"""{BEFORE}
    needs_bill = PendingFlag(was="needs_receipt")

@handles(Order.needs_bill)
def send(order):
    order.done += "new "
"""

# What the models are when a later version of this project has one more column.
LATER = f"""
from peewee import SQL
import models.flags
from models.columns import _SmallInteger, companions

def more():
    return {{**companions(), "extra": _SmallInteger(constraints=[SQL("DEFAULT 0")])}}

models.flags.companions = more
{OLD.replace("old ", "later ")}
"""

# Rung once more at the end: where Redis is slow for a moment, kicks are dropped.
MARK = """
import time
from {module} import Order
from worker.kicking import ring
for number in range({count}):
    Order.create(name=str(number), {name}=True)
while not ring(Order.{name}):
    time.sleep(0.1)
"""

MakeHouse = Callable[..., House]


@pytest.fixture(params=KINDS)
def make_shop(
    request: pytest.FixtureRequest, make_house: MakeHouse, tmp_path: Path
) -> Callable[..., House]:
    """Return what makes a house with modules of old and of new code."""

    def make(**environment: str) -> House:
        migrations = {"PENDING_MIGRATIONS": str(tmp_path / "migrations")}
        house = make_house(request.param, **migrations, **environment)
        codes = {"before": BEFORE, "old": OLD, "renamed": RENAMED, "later": LATER}
        for name, code in codes.items():
            (tmp_path / f"shop_{name}.py").write_text(code)
        return house

    return make


def run(house: House, code: str, *arguments: str) -> str:
    done = house.run("python", "-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pending(house: House, module: str, *arguments: str) -> str:
    """Run the `pending` command of a process that has imported the module."""
    code = f"import {module}; from worker.cli import main; main()"
    return run(house, code, *arguments)


def create_table(house: House, module: str) -> None:
    run(house, f"from {module} import Order; Order.create_table()")


def mark(house: House, module: str, name: str, count: int) -> None:
    run(house, MARK.format(module=module, name=name, count=count))


def done(house: House, count: int) -> list[str]:
    """What was done with each row, once it is so many; empty before."""
    order = "`order`" if house.database.quote == "``" else '"order"'
    with house.database.connection_context():
        rows = house.database.execute_sql(f"SELECT done FROM {order}").fetchall()
    found = [text for (text,) in rows if text]
    return found if len(found) >= count else []


def test_a_flag_that_is_renamed_is_one_flag(make_shop: Callable[..., House]) -> None:
    """Bells alone bring the work: they have the name that both know."""
    house = make_shop(SWEEP_SECONDS="3600")
    create_table(house, "shop_old")
    old = house.start_worker("shop_old", processes=1)
    mark(house, "shop_renamed", "needs_bill", 5)
    assert wait_for(lambda: done(house, 5)) == ["old "] * 5
    house.start_worker("shop_renamed", processes=1)
    names = {"shop_old": "needs_receipt", "shop_renamed": "needs_bill"}
    marking = [
        threading.Thread(target=mark, args=(house, module, name, 10))
        for module, name in names.items()
    ]
    for thread in marking:
        thread.start()
    for thread in marking:
        thread.join(120)
    assert set(wait_for(lambda: done(house, 25))) <= {"old ", "new "}
    assert end(old) == 0
    mark(house, "shop_old", "needs_receipt", 5)
    assert wait_for(lambda: done(house, 30)).count("new ") >= 5
    assert set(done(house, 30)) == {"old ", "new "}, "each was done once"
    assert "no handler" not in house.log("dramatiq", "worker")


def test_code_from_before_the_flag_goes_on_while_it_comes(
    make_shop: Callable[..., House],
) -> None:
    """It inserts and updates; a worker with that code takes bells, and loses none of
    the work."""
    house = make_shop()
    create_table(house, "shop_before")
    house.start_worker("shop_before", processes=1)
    code = """
from shop_before import Order
print("begun", flush=True)
while input():
    order = Order.create(name="before")
    order.name = "touched"
    order.save()
    print(order.id, flush=True)
"""
    with house.talking(code) as before:
        first = before("insert")
        written = pending(house, "shop_old", "migration", "add", "order.needs_receipt")
        assert "0001_add_order_needs_receipt.py" in written
        assert "applied 0001_add_order" in pending(house, "shop_old", "migrate")
        last = before("insert")
    house.start_worker("shop_old", processes=1)
    mark(house, "shop_old", "needs_receipt", 20)
    assert wait_for(lambda: done(house, 20)) == ["old "] * 20
    keys = [first, last]
    assert "2 marked" in pending(house, "shop_old", "mark", "needs_receipt", *keys)
    assert wait_for(lambda: done(house, 22)) == ["old "] * 22


def test_workers_of_two_versions_share_a_table_that_a_later_one_completed(
    make_shop: Callable[..., House],
) -> None:
    house = make_shop()
    create_table(house, "shop_old")
    house.start_worker("shop_old", processes=1)
    written = pending(house, "shop_later", "migration", "update")
    assert "0001_complete_order_needs_receipt_extra.py" in written
    assert "applied 0001" in pending(house, "shop_later", "migrate")
    assert "Nothing is missing" in pending(house, "shop_later", "migration", "update")
    house.start_worker("shop_later", processes=1)
    for module in ("shop_old", "shop_later"):
        mark(house, module, "needs_receipt", 20)
    assert set(wait_for(lambda: done(house, 40))) <= {"old ", "later "}
    assert "took back 0001" in pending(house, "shop_later", "rollback")
    mark(house, "shop_old", "needs_receipt", 5)
    wait_for(lambda: done(house, 45))


def test_a_flag_whose_columns_are_renamed_too_forwards_the_old_marks(
    make_shop: Callable[..., House],
) -> None:
    """As docs/migrating.md says: both flags, and a handler that hands over."""
    house = make_shop()
    create_table(house, "shop_old")
    code = f"""{BEFORE}
    needs_receipt = PendingFlag()
    needs_bill = PendingFlag()

@handles(Order.needs_receipt)
def hand_over(order):
    order.needs_bill = True

@handles(Order.needs_bill)
def send(order):
    order.done += "new "
"""
    (house.folder / "shop_both.py").write_text(code)
    pending(house, "shop_both", "migration", "add", "order.needs_bill")
    pending(house, "shop_both", "migrate")
    mark(house, "shop_old", "needs_receipt", 10)
    both = house.start_worker("shop_both", processes=1)
    mark(house, "shop_both", "needs_bill", 10)
    assert wait_for(lambda: done(house, 20)) == ["new "] * 20
    after = code.replace("    needs_receipt = PendingFlag()\n", "").replace(
        "@handles(Order.needs_receipt)", ""
    )
    (house.folder / "shop_after.py").write_text(after)
    house.start_worker("shop_after", processes=1)
    assert end(both) == 0
    pending(house, "shop_after", "migration", "remove", "order.needs_receipt")
    assert "applied 0002" in pending(house, "shop_after", "migrate")
    mark(house, "shop_after", "needs_bill", 5)
    wait_for(lambda: done(house, 25))
