-- The order of what changes for each user, across all conversations, for event streams. A change takes the next number
-- in the transaction that makes it, so that a user's numbers are in commit order.

create table stream (
  user_id  text   not null primary key,
  epoch    bigint not null,               -- when the row was made, Unix milliseconds: numbers of another row mean nothing
  seq      bigint not null,               -- the newest change's number
  floor    bigint not null                -- something vanished then: who was told less must load everything anew
);

alter table conversation add column seq bigint not null default 0;   -- its newest change
alter table message add column seq bigint not null default 0;        -- the change that brought what is shown of it
create index conversation_changed on conversation (user_id, seq);
create index message_changed on message (conversation_id, seq);
