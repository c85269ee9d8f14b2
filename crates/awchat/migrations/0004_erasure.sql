-- Users that were erased. What is left of one is a keyed digest of the id, which says nothing to who has no id to try.

-- Random, made once: what digests are keyed with.
create table digest_key (
  name   text   not null primary key,
  value  text   not null
);

create table erasure (
  digest        text   not null primary key,    -- of the user's id
  erased_ms     bigint not null,                -- session tokens and conversations from before it count no more
  returned      bigint not null default 0,      -- the user has come back with a later token
  contact_gone  bigint not null default 0       -- Intercom has deleted the user's contact
);

-- The conversations they had here, so that no sweep brings one back.
create table erased_conversation (
  digest  text   not null primary key           -- of the conversation's id
);
