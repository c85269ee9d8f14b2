-- Several processes on one PostgreSQL database: who lives, and who has what in hand. A SQLite file has one process, and
-- leaves these tables empty.

create table node (
  id              text   not null primary key,  -- another one at each start
  alive_until_ms  bigint not null               -- renewed; from then on the others take up what it had in hand
);

-- What one node does for all, until it goes.
create table lead (
  name  text   not null primary key,
  node  text   not null
);

-- Who has it in hand: a node's id. What it had in hand when it died is free, whatever its lease says.
alter table job add column leased_by text not null default '';
alter table notice add column leased_by text not null default '';
alter table inbox add column leased_by text not null default '';
alter table inbox add column leased_until_ms bigint not null default 0;
alter table outbound add column sender text not null default '';
