"""A small shop: orders and products, and what each still needs."""
