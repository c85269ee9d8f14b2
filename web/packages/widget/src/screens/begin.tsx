// A new conversation: from a topic, from words, or both.

import type { Upload } from "@aw-chat/core";
import { Composer } from "../composer.tsx";
import { Problem } from "../parts.tsx";
import { useApp, useResource, useTask } from "../view.ts";
import { labelOf, topicOf } from "./home.tsx";

export function Begin({ main, sub }: { main?: string; sub?: string }) {
  const { chat, language, router } = useApp();
  const { t, locale } = language;
  const config = useApp().config.value;
  const draft = useResource(chat.draft);
  const { isBusy, error, run } = useTask();

  const topic = main === undefined ? null : topicOf(config, main);
  const labels = [
    main && labelOf(topic?.labels, locale, main),
    sub && labelOf(topic?.subs.find((one) => one.sub === sub)?.labels, locale, sub),
  ].filter(Boolean);

  function begin(text: string, uploads: readonly Upload[]): Promise<boolean> {
    return run(async (signal) => {
      const reason = main === undefined ? undefined : { main, sub };
      const thread = await chat.begin({ reason, text: text.trim() || undefined, uploads }, { signal });
      router.reset({ screen: "thread", id: thread.id });
    });
  }

  return (
    <div class="fill">
      <div class="grow">
        {labels.length > 0 && (
          <p class="chosen" dir="auto">
            <span class="faint">{t("begin.topic")}</span>
            <strong>{labels.join(" · ")}</strong>
          </p>
        )}
        <p class="lead">{t("thread.empty")}</p>
        <Problem error={error} />
      </div>
      <Composer
        text={draft}
        onText={chat.draft.set}
        onSend={begin}
        isBusy={isBusy}
        mayBeEmpty={main !== undefined}
        action={t("begin.start")}
      />
    </div>
  );
}
