// React hooks over @aw-chat/core, for React DOM and React Native alike.

import type {
  AwChat,
  AwEvents,
  Connection,
  ConversationsState,
  Draft,
  Resource,
  Thread,
  ThreadState,
  Unread,
} from "@aw-chat/core";
import {
  createContext,
  createElement,
  type ReactNode,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useSyncExternalStore,
} from "react";

const Context = createContext<AwChat | null>(null);

/** Gives the tree below its client, and starts it; it is stopped when the tree goes. Another user is another `client`. */
export function AwChatProvider({ client, children }: { client: AwChat; children?: ReactNode }): ReactNode {
  useEffect(() => {
    // It fails only after a logout, and then there is nothing to do.
    client.start().catch(() => {});
    return client.stop;
  }, [client]);
  return createElement(Context.Provider, { value: client }, children);
}

/** The client of the provider above. */
export function useAwChat(): AwChat {
  const client = useContext(Context);
  if (!client) throw new Error("useAwChat: there is no <AwChatProvider> above");
  return client;
}

/** The value of any resource, rendered anew when it changes. */
export function useResource<T>({ get, subscribe }: Resource<T>): T {
  return useSyncExternalStore(subscribe, get, get);
}

/** The list, kept fresh while it is on the screen. */
export function useConversations(): ConversationsState {
  const { conversations } = useAwChat();
  useEffect(() => conversations.open(), [conversations]);
  return useResource(conversations);
}

export function useUnread(): Unread {
  return useResource(useAwChat().unread);
}

export function useConnection(): Connection {
  return useResource(useAwChat().connection);
}

/** A text under edit, and how to change it. */
export function useDraft(draft: Draft): [text: string, set: (text: string) => void] {
  return [useResource(draft), draft.set];
}

/** A conversation, loaded and kept up to date while it is on the screen, with what can be done to it. */
export type ThreadView = ThreadState &
  Pick<Thread, "id" | "draft" | "send" | "retry" | "discard" | "markRead" | "close">;

export function useThread(id: string): ThreadView {
  const client = useAwChat();
  const thread = client.thread(id);
  useEffect(() => thread.open(), [thread]);
  const state = useResource(thread.state);
  return useMemo(() => {
    const { draft, send, retry, discard, markRead, close } = thread;
    return { ...state, id: thread.id, draft, send, retry, discard, markRead, close };
  }, [thread, state]);
}

/** Calls the newest `listener` with each event. */
export function useAwEvent<N extends keyof AwEvents>(name: N, listener: (event: AwEvents[N]) => void): void {
  const client = useAwChat();
  const newest = useRef(listener);
  useEffect(() => {
    newest.current = listener;
  });
  useEffect(() => client.on(name, (event) => newest.current(event)), [client, name]);
}
