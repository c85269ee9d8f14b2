import "@aw-chat/widget";

/** Puts the chat on the page, for whoever is signed in. */
export function addChat(user: { id: string; token: () => Promise<string> }): void {
  const chat = document.createElement("aw-chat");
  document.body.append(chat);
  chat.boot({ serverUrl: "https://support.example.com", userScope: user.id, getToken: user.token });
}

/** At sign-out: nothing of the user stays on the device. The next `boot` is for the next user. */
export async function signOut(): Promise<void> {
  await document.querySelector("aw-chat")?.shutdown();
}
