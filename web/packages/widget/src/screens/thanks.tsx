// What stands where a form was that has been sent.

import type { IconName } from "../parts.tsx";
import { Empty } from "../parts.tsx";
import { useApp } from "../view.ts";

export function Thanks({ icon, text }: { icon: IconName; text: string }) {
  const { language, router } = useApp();
  return (
    <Empty icon={icon}>
      <p>{text}</p>
      <button class="button main" type="button" onClick={router.back}>
        {language.t("complain.done")}
      </button>
    </Empty>
  );
}
