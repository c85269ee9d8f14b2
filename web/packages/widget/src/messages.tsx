// Messages one below the other, by day and by who wrote them.

import type { Attachment, Message, ThreadMessage } from "@aw-chat/core";
import { Fragment } from "preact";
import { errorKey, Icon } from "./parts.tsx";
import { useAddress } from "./screens/viewer.tsx";
import { linked, rendered } from "./text.tsx";
import { useApp } from "./view.ts";

const TOGETHER_S = 300;

function Thumbnail({ file }: { file: Attachment }) {
  const { language, router } = useApp();
  const { url, renew } = useAddress(file);
  const kind = file.contentType.split("/")[0];
  const open = () => router.push({ screen: "viewer", file });
  const label = language.t("file.open", { name: file.name });
  if (kind === "image") {
    return (
      <button class="thumbnail" type="button" aria-label={label} onClick={open}>
        <img
          src={url}
          alt=""
          loading="lazy"
          width={file.width ?? undefined}
          height={file.height ?? undefined}
          onError={renew}
        />
      </button>
    );
  }
  return (
    <button class="file" type="button" aria-label={label} onClick={open}>
      <Icon name={kind === "video" ? "video" : "file"} />
      <span>
        <bdi>{file.name}</bdi>
        {file.size !== null && <small>{language.bytes(file.size)}</small>}
      </span>
    </button>
  );
}

/** What to do about a message of one's own that has failed. */
export interface Mending {
  retry: (key: string) => void;
  discard: (key: string) => void;
}

function Delivery({ message, mending }: { message: ThreadMessage; mending: Mending }) {
  const { t } = useApp().language;
  const { delivery, error, key } = message;
  if (delivery !== "failed") return <span>{t(`message.${delivery}`)}</span>;
  return (
    <span class="problem">
      {t("message.failed")} {error && t(errorKey(error))}{" "}
      <button class="link" type="button" onClick={() => mending.retry(key)}>
        {t("retry")}
      </button>{" "}
      <button class="link" type="button" onClick={() => mending.discard(key)}>
        {t("message.discard")}
      </button>
    </span>
  );
}

type Shown = Message & Partial<Pick<ThreadMessage, "key" | "delivery" | "fileNames">>;

function Bubble({
  message,
  isFirst,
  isLast,
  mending,
}: {
  message: Shown;
  isFirst: boolean;
  isLast: boolean;
  mending?: Mending | undefined;
}) {
  const { language } = useApp();
  const { author, body, html, attachments, fileNames = [], redacted, createdAt, delivery = "sent" } = message;
  const name = author.name || language.t("support");
  const isOwn = author.type === "user";
  return (
    <li class={`message ${author.type}${isFirst ? " first" : ""}${redacted ? " redacted" : ""} ${delivery}`}>
      {isOwn ? (
        <span class="hidden">{language.t("you")}</span>
      ) : (
        <span class={isFirst ? "author" : "hidden"} dir="auto">
          {name}
        </span>
      )}
      {redacted && <p class="speech">{language.t("message.redacted")}</p>}
      {!redacted && body && (
        <div class="speech" part="bubble" dir="auto">
          {html ? rendered(html) : <p>{linked(body)}</p>}
        </div>
      )}
      {attachments.map((file) => (
        <Thumbnail key={file.id} file={file} />
      ))}
      {fileNames.map((name) => (
        <p key={name} class="file">
          <Icon name="file" />
          <bdi>{name}</bdi>
        </p>
      ))}
      {(isLast || delivery !== "sent") && (
        <p class="meta">
          <time title={language.full(createdAt)}>{language.clock(createdAt)}</time>
          {mending && delivery !== "sent" && <Delivery message={message as ThreadMessage} mending={mending} />}
        </p>
      )}
    </li>
  );
}

export function Messages({ messages, mending }: { messages: readonly Shown[]; mending?: Mending }) {
  const { language } = useApp();
  const belong = (a: Shown | undefined, b: Shown | undefined) =>
    a !== undefined &&
    b !== undefined &&
    a.author.type === b.author.type &&
    a.author.name === b.author.name &&
    b.createdAt - a.createdAt < TOGETHER_S &&
    language.day(a.createdAt) === language.day(b.createdAt);
  return (
    <ol class="messages" aria-label={language.t("thread.messages")}>
      {messages.map((message, at) => {
        const [before, after] = [messages[at - 1], messages[at + 1]];
        const day = language.day(message.createdAt);
        return (
          <Fragment key={message.key ?? message.id}>
            {(!before || language.day(before.createdAt) !== day) && <li class="day">{day}</li>}
            <Bubble
              message={message}
              isFirst={!belong(before, message)}
              isLast={!belong(message, after)}
              mending={mending}
            />
          </Fragment>
        );
      })}
    </ol>
  );
}
