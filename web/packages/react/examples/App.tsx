import type { AwChat } from "@aw-chat/core";
import { AwChatProvider, useConversations, useDraft, useThread, useUnread } from "@aw-chat/react";
import { useState } from "react";

export function App({ client }: { client: AwChat }) {
  const [id, setId] = useState<string | null>(null);
  return <AwChatProvider client={client}>{id ? <Conversation id={id} /> : <List onPick={setId} />}</AwChatProvider>;
}

function List({ onPick }: { onPick: (id: string) => void }) {
  const { items } = useConversations();
  const { total } = useUnread();
  return (
    <section>
      <h2>Support ({total})</h2>
      {items.map(({ id, lastMessage }) => (
        <button key={id} type="button" onClick={() => onPick(id)}>
          {lastMessage?.body ?? "New"}
        </button>
      ))}
    </section>
  );
}

function Conversation({ id }: { id: string }) {
  const { messages, draft, send, retry } = useThread(id);
  const [text, setText] = useDraft(draft);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        send({ text });
      }}
    >
      {messages.map((message) => (
        <p key={message.key}>
          {message.body}
          {message.delivery === "failed" && (
            <button type="button" onClick={() => retry(message.key)}>
              Try again
            </button>
          )}
        </p>
      ))}
      <input value={text} onChange={(event) => setText(event.target.value)} />
    </form>
  );
}
