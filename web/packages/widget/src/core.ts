// The client, as a chunk of its own: the launcher's badge needs it before anything is opened.

export { createAwChat } from "@aw-chat/core";
