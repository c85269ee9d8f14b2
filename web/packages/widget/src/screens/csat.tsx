// A rating, once for each conversation or ticket.

import { useState } from "preact/hooks";
import { Field, Icon, Problem } from "../parts.tsx";
import { useApp, useTask } from "../view.ts";
import { Thanks } from "./thanks.tsx";

const STARS = [1, 2, 3, 4, 5];

export function Csat(of: { conversationId?: string; ticketId?: string }) {
  const { chat, language, announce } = useApp();
  const { t } = language;
  const [stars, setStars] = useState(0);
  const [comment, setComment] = useState("");
  const [isMissing, setMissing] = useState(false);
  const [isDone, setDone] = useState(false);
  const { isBusy, error, run } = useTask();

  function submit(event: Event): void {
    event.preventDefault();
    setMissing(!stars);
    if (!stars || isBusy) return;
    void run(async (signal) => {
      await chat.csat.rate({ ...of, stars, ...(comment.trim() && { comment: comment.trim() }) }, { signal });
      setDone(true);
      announce(t("rate.thanks"));
    });
  }

  if (isDone) {
    return <Thanks icon="star" text={t("rate.thanks")} />;
  }
  return (
    <form class="form" onSubmit={submit} noValidate>
      <fieldset class="stars" aria-describedby={isMissing ? "stars-problem" : undefined}>
        <legend>{t("rate.stars")}</legend>
        <div>
          {STARS.map((n) => (
            <label key={n} class={n <= stars ? "star on" : "star"}>
              <input
                class="hidden"
                type="radio"
                name="stars"
                value={n}
                checked={n === stars}
                onChange={() => setStars(n)}
              />
              <Icon name="star" />
              <span class="hidden">{t("rate.star", { n })}</span>
            </label>
          ))}
        </div>
        {isMissing && !stars && (
          <p class="problem" role="alert" id="stars-problem">
            {t("rate.missing")}
          </p>
        )}
      </fieldset>
      <Field label={`${t("rate.comment")} (${t("optional")})`}>
        {(attributes) => (
          <textarea
            {...attributes}
            rows={4}
            maxLength={2000}
            dir="auto"
            value={comment}
            onInput={(event) => setComment(event.currentTarget.value)}
          />
        )}
      </Field>
      <Problem error={error} />
      <button class="button main wide" type="submit" aria-disabled={isBusy}>
        {t("rate.send")}
      </button>
    </form>
  );
}
