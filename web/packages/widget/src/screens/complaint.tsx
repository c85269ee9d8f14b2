// A complaint: what it is about, and what happened.

import type { ComplaintCategory } from "@aw-chat/core";
import { useState } from "preact/hooks";
import { Await, Field, Problem } from "../parts.tsx";
import { useApp, useTask } from "../view.ts";
import { Thanks } from "./thanks.tsx";

const SHORTEST = 10;

export function Complaint({ chatId }: { chatId?: string }) {
  const { chat, language, announce, config } = useApp();
  const { t } = language;
  const [category, setCategory] = useState<ComplaintCategory | "">("");
  const [description, setDescription] = useState("");
  const [isTried, setTried] = useState(false);
  const [isDone, setDone] = useState(false);
  const { isBusy, error, run } = useTask();
  const left = SHORTEST - [...description.trim()].length;

  function submit(event: Event): void {
    event.preventDefault();
    setTried(true);
    if (!category || left > 0) {
      // To the first that is wrong.
      const form = event.currentTarget as HTMLFormElement;
      form.querySelector<HTMLElement>(category ? "textarea" : "select")?.focus();
      return;
    }
    if (isBusy) return;
    void run(async (signal) => {
      const about = chatId ? { chatId } : {};
      await chat.complaints.send({ category, description: description.trim(), ...about }, { signal });
      setDone(true);
      announce(t("complain.thanks"));
    });
  }

  if (isDone) {
    return <Thanks icon="end" text={t("complain.thanks")} />;
  }
  return (
    <Await of={config}>
      {({ complaintCategories }) => (
        <form class="form" onSubmit={submit} noValidate>
          <p class="lead">{t("complain.intro")}</p>
          <Field label={t("complain.category")} problem={isTried && !category ? t("complain.missing") : null}>
            {(attributes) => (
              <select
                {...attributes}
                value={category}
                onChange={(event) => setCategory(event.currentTarget.value as ComplaintCategory)}
              >
                <option value="">{t("complain.choose")}</option>
                {complaintCategories.map((name) => (
                  <option key={name} value={name}>
                    {t(`complain.${name}`)}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <Field
            label={t("complain.text")}
            hint={left > 0 ? t("complain.left", { n: left }) : undefined}
            problem={isTried && left > 0 ? t("complain.short", { n: SHORTEST }) : null}
          >
            {(attributes) => (
              <textarea
                {...attributes}
                rows={6}
                maxLength={5000}
                dir="auto"
                value={description}
                onInput={(event) => setDescription(event.currentTarget.value)}
              />
            )}
          </Field>
          <Problem error={error} />
          <button class="button main wide" type="submit" aria-disabled={isBusy}>
            {t("complain.send")}
          </button>
        </form>
      )}
    </Await>
  );
}
