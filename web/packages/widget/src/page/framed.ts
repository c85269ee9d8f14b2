// The page in a frame, or in a web view: the app around it gives the tokens. Only apps that the server names (its policy's
// `frame-ancestors`) can be around it.

import type { Place } from "./page.ts";

/** What this page asks, and how it is answered: `{ type: "aw-token", id, token, userScope }`, or `error` in place of `token`. */
interface Asked {
  type: "aw-get-token";
  id: number;
  reason: string;
}

interface ReactNative {
  postMessage(text: string): void;
}

const WAIT_MS = 3000;

/** The app around, if there is one. */
function around(): ((asked: Asked) => void) | null {
  const { ReactNativeWebView } = window as unknown as { ReactNativeWebView?: ReactNative };
  if (ReactNativeWebView) return (asked) => ReactNativeWebView.postMessage(JSON.stringify(asked));
  return window.parent === window ? null : (asked) => window.parent.postMessage(asked, "*");
}

/** Null where nobody answers. */
export async function framed(): Promise<Place | null> {
  const ask = around();
  if (!ask) return null;
  const waiting = new Map<number, (answer: { token?: string; userScope?: string; error?: string }) => void>();
  let asked = 0;
  addEventListener("message", ({ source, data }) => {
    // From the app around, or put in by its web view. Nobody else can be asked.
    if (source !== window.parent && source !== null && source !== window) return;
    if (data?.type === "aw-token") waiting.get(data.id)?.(data);
  });
  const get = (reason: string) =>
    new Promise<{ token: string; userScope: string }>((resolve, reject) => {
      const id = ++asked;
      waiting.set(id, ({ token, userScope = "", error }) => {
        waiting.delete(id);
        if (token) resolve({ token, userScope });
        else reject(new Error(error ?? "the app gave no token"));
      });
      ask({ type: "aw-get-token", id, reason });
    });
  const first = get("initial");
  const silence = new Promise<null>((resolve) => setTimeout(() => resolve(null), WAIT_MS));
  const known = await Promise.race([first, silence]).catch(() => null);
  if (!known) return null;
  let kept: string | null = known.token;
  return {
    userScope: known.userScope,
    async getToken({ reason }) {
      const token = kept ?? (await get(reason)).token;
      kept = null;
      return token;
    },
  };
}
