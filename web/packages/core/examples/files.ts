import { type AwChat, AwError, type Thread } from "@aw-chat/core";

/** Uploads with progress, then sends: the message waits for its files. */
export async function sendPictures(chat: AwChat, thread: Thread, files: File[], progress: (done: number) => void) {
  try {
    const uploads = await Promise.all(
      files.map((file) => chat.files.upload(file, { onProgress: (sent, total) => progress(sent / total) })),
    );
    thread.send({ text: "See the pictures.", uploads });
  } catch (error) {
    if (error instanceof AwError && error.code === "file_too_large") return "too large";
    throw error;
  }
  return "on its way";
}
