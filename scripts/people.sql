-- What the servers ask of PostgreSQL with --db: people to find, the first of whom the simulated database finds, too, and
-- what was posted. Run it once: psql -f scripts/people.sql
create table people (id integer primary key, name text not null, born integer not null);
insert into people (id, name, born) values (1, 'Ada Lovelace', 1815);
insert into people (id, name, born) select id, 'Person ' || id, 1815 + id % 200 from generate_series(2, 10000) as id;
create table posts (id bigint generated always as identity primary key, body bytea not null);
