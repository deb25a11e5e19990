"""What customers see."""

from __future__ import annotations

from worker.testing import drain


def test_who_orders_gets_one_receipt(client, mails):
    lamp = client.post("/products", json={"name": "Lamp", "price": 2_500}).json()
    new = {"product": lamp["id"], "email": "ann@example.com", "quantity": 2}
    order = client.post("/orders", json=new).json()
    assert (order["total"], order["needs"]) == (5_000, ["needs_receipt"])
    drain()
    (mail,) = mails()
    assert "2 × Lamp: 50.00" in mail
    order = client.get(f"/orders/{order['id']}").json()
    assert order["needs"] == []
    assert order["receipt_sent_at"]


def test_a_receipt_is_sent_again_to_whoever_asks(client, mails):
    lamp = client.post("/products", json={"name": "Lamp", "price": 2_500}).json()
    new = {"product": lamp["id"], "email": "ann@example.com"}
    order = client.post("/orders", json=new).json()
    drain()
    assert client.post(f"/orders/{order['id']}/receipt").status_code == 202
    drain()
    assert len(mails()) == 2
    assert client.post("/orders/0/receipt").status_code == 404


def test_an_order_of_nothing_is_refused_and_needs_nothing(client):
    new = {"product": 7, "email": "ann@example.com"}
    assert client.post("/orders", json=new).status_code == 404
    assert drain() == {}


def test_the_search_knows_the_newest_price(client):
    def found():
        return [
            (one["name"], one["price"])
            for one in client.get("/search", params={"words": "oak lamp"}).json()
        ]

    lamp = {"name": "Lamp", "price": 2_500, "description": "Brass and oak"}
    number = client.post("/products", json=lamp).json()["id"]
    client.post("/products", json={"name": "Lamp shade", "price": 900})
    assert found() == []
    drain()
    assert found() == [("Lamp", 2_500)]
    client.put(f"/products/{number}/price", json={"price": 1_900})
    drain()
    assert found() == [("Lamp", 1_900)]
