-- Views over fixtures/orders.jsonl: the orders of a small shop, PLACED, then PAID, then SHIPPED or
-- RETURNED, or CANCELLED. An order whose amount is not a number is quarantined: it is left out of
-- the views that compute with the amount, named in the summary, and stays in the others.

-- What has each customer ordered? Guests have no id: their orders are the row of NULL.
CREATE MATERIALIZED VIEW customer_totals AS
SELECT customer.id AS customer_id, count(*) AS orders, sum(amount) AS total, avg(amount) AS average
FROM orders
WHERE status <> 'CANCELLED'
GROUP BY customer.id;

-- How many orders are where? Also with an amount that is not a number: it is not looked at.
CREATE MATERIALIZED VIEW orders_by_status AS
SELECT status, count(*) AS orders, count(coupon) AS with_coupon
FROM orders
GROUP BY status;

-- What did the shop earn, and what is the tax of 19 in the hundred on it?
CREATE MATERIALIZED VIEW revenue AS
SELECT count(*) AS orders, sum(amount) AS net, sum(amount * 0.19) AS tax
FROM orders
WHERE status = 'PAID' OR status = 'SHIPPED';

-- What must be packed now?
CREATE MATERIALIZED VIEW open_orders AS
SELECT order_id, customer.name AS customer, amount, gift, placed_at
FROM orders
WHERE status = 'PLACED' OR status = 'PAID';
