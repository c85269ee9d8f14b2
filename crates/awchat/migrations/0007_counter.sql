-- Numbers that are given once each, in order: whoever takes one holds the row until the end of the transaction.
create table counter (
  name   text   not null primary key,
  value  bigint not null                        -- the last one given
);
insert into counter (name, value) select 'outbound', coalesce(max(seq), 0) from outbound;
