-- Views over fixtures/clicks.jsonl, a Kinesis stream: every click is a row that only ever comes.

-- Which pages are seen, how fast do they come, how far does one read?
CREATE MATERIALIZED VIEW pages AS
SELECT page, count(*) AS clicks, avg(ms) AS avg_ms, avg(scrolled) AS avg_scrolled
FROM clicks
GROUP BY page;

-- Where do new visitors come from, and who sent them?
CREATE MATERIALIZED VIEW new_visitors AS
SELECT geo.country AS country, referrer, count(*) AS clicks
FROM clicks
WHERE first_visit = TRUE AND referrer IS NOT NULL
GROUP BY geo.country, referrer;
