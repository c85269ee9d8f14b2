-- What users upload. An object of the storage is there before its row, and its row goes first.

create table file (
  id             text   not null primary key,   -- 128 random bits as base64url
  user_id        text   not null,
  state          text   not null,               -- ready | gone: its object is to be removed
  object         text   not null unique,        -- the storage's key
  name           text   not null,
  content_type   text   not null,
  bytes          bigint not null,
  width          bigint,
  height         bigint,
  sha256         text   not null,               -- of what is kept
  idem_key       text,
  fingerprint    text   not null,               -- of what was uploaded: the same request again?
  outbound_id    text,                          -- the journal's row that it goes with; null: none yet
  message_id     text,                          -- the message that it is on
  conversation_id text,
  created_ms     bigint not null
);
create unique index file_key on file (user_id, idem_key) where idem_key is not null;
create index file_of_user on file (user_id, created_ms);
create index file_of_row on file (outbound_id);
create index file_of_message on file (conversation_id, message_id);
create index file_loose on file (created_ms) where message_id is null;

-- Files on messages of operators: they stay at Intercom, and are known here by their place.
create table remote_file (
  id              text   not null primary key,  -- a digest of the place
  conversation_id text   not null,
  message_id      text   not null,
  name            text   not null,
  content_type    text   not null
);
create index remote_file_of_conversation on remote_file (conversation_id);
