-- What users' devices are to be told: a row per device and reason, written with what it tells of. What is sent is a pile:
-- all that one device is to be told of one conversation. A row goes when it was told, or need not be any more.

create table notice (
  id               text   not null primary key,   -- pile and reason
  pile             text   not null,               -- device, conversation and kind
  user_id          text   not null,
  device_id        text   not null,
  platform         text   not null,               -- mobile | tma
  kind             text   not null,               -- chat | ticket
  conversation_id  text   not null,
  reason           text   not null,               -- the message, or the part that changed the ticket's status
  position         bigint not null,               -- who has read up to here need not be told
  created_ms       bigint not null,
  due_ms           bigint not null,
  attempts         bigint not null default 0,
  leased_until_ms  bigint not null default 0,
  sending          bigint not null default 0      -- asked of Telegram, which may or may not have done it
);
create index notice_due on notice (platform, due_ms);
create index notice_pile on notice (pile);
create index notice_of_device on notice (device_id);
create index notice_of_user on notice (user_id);
create index notice_about on notice (conversation_id);

-- How often it was registered: a token is removed only if nobody has registered it since.
alter table device add column registrations bigint not null default 1;
-- Telegram does not let the bot write to this user.
alter table device add column unreachable bigint not null default 0;
