-- Views over fixtures/flights.jsonl.gz: flights out of New York, 1-7 January 2013.
-- A flight is SCHEDULED, then DEPARTED, then LANDED or DIVERTED; one that never left is removed.
-- Times are UTC, delays are in minutes (negative: early), distances in miles.

-- How many flights does each airline fly, how late are they, how much do they catch up in the air?
CREATE MATERIALIZED VIEW airlines AS
SELECT
  airline.code AS code,
  airline.name AS airline,
  count(*) AS flights,
  sum(route.distance) AS miles,
  avg(delay.arrival) AS avg_late,
  sum(delay.departure - delay.arrival) AS caught_up
FROM flights
GROUP BY airline.code, airline.name;

-- What does the board at each airport say?
CREATE MATERIALIZED VIEW boards AS
SELECT route.origin AS origin, status, count(*) AS flights, avg(delay.departure) AS avg_late
FROM flights
GROUP BY route.origin, status;

-- Which days were bad? Flights that arrived more than a quarter of an hour late, or were diverted.
CREATE MATERIALIZED VIEW late_by_day AS
SELECT day, count(*) AS flights, count(delay.arrival) AS arrived, sum(delay.arrival) AS minutes_late
FROM flights
WHERE delay.arrival > 15 OR status = 'DIVERTED'
GROUP BY day;

-- How long is the way to the Pacific?
CREATE MATERIALIZED VIEW coast_to_coast AS
SELECT
  route.dest AS dest,
  route.origin AS origin,
  count(*) AS flights,
  avg(air_time) AS avg_minutes
FROM flights
WHERE status = 'LANDED' AND (route.dest = 'LAX' OR route.dest = 'SFO' OR route.dest = 'SEA')
GROUP BY route.dest, route.origin;

-- Does the weather matter? Visibility in miles at the departing airport, NULL if not recorded.
CREATE MATERIALIZED VIEW visibility AS
SELECT
  weather.visib AS visibility,
  count(*) AS flights,
  avg(delay.departure) AS avg_late,
  avg(weather.temp) AS avg_fahrenheit
FROM flights
WHERE NOT status = 'SCHEDULED'
GROUP BY weather.visib;

-- The whole week in one row.
CREATE MATERIALIZED VIEW week AS
SELECT
  count(*) AS flights,
  count(air_time) AS landed,
  sum(air_time) AS minutes_in_the_air,
  sum(route.distance * 1.609344) AS kilometres
FROM flights;

-- Who is in the air? At the end of the week three that never arrived where they were going.
CREATE MATERIALIZED VIEW in_the_air AS
SELECT flight, route.dest AS dest, departed, scheduled.arrival AS expected
FROM flights
WHERE departed IS NOT NULL AND arrived IS NULL;

-- Who waited longest? Flights that left five hours late or more.
CREATE MATERIALIZED VIEW worst_delays AS
SELECT flight, airline.name AS airline, route.dest AS dest, delay.departure AS minutes_late
FROM flights
WHERE delay.departure >= 300;
