-- A message's place among those of its user: `outbound.seq` is one more than the user's last. It was taken from one row
-- before, for which all messages at all nodes waited.
create index outbound_of_user on outbound (user_id, seq);
drop index outbound_seq;
-- Nodes of the version before go on taking theirs from there: beyond what users have been given meanwhile.
update counter set value = value + 1000000000 where name = 'outbound';
