import { type AwChat, AwError } from "@aw-chat/core";

/** What to tell the user about a complaint. */
export async function complain(chat: AwChat, description: string): Promise<string> {
  try {
    await chat.complaints.send({ category: "technical", description });
    return "Thank you.";
  } catch (error) {
    if (!(error instanceof AwError)) throw error;
    if (error.code === "validation_error") return "Please describe it in ten characters or more.";
    // The same again later is safe: it is filed once, even if it had been.
    return error.retryable ? "Not now. Please try again." : "That did not work.";
  }
}
