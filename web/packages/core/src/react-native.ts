// React Native. Its modules are handed in, so that this package depends on none of them.

import { startTimer } from "./browser.ts";
import type { Env } from "./env.ts";

/** `AppState` of react-native, as far as it is used. */
export interface AppStateLike {
  readonly currentState: string | null;
  addEventListener(type: "change", listener: (state: string) => void): { remove(): void };
}

/** `@react-native-async-storage/async-storage`, as far as it is used. */
export interface AsyncStorageLike {
  getAllKeys(): Promise<readonly string[]>;
  getItem(key: string): Promise<string | null>;
  setItem(key: string, value: string): Promise<unknown>;
  removeItem(key: string): Promise<unknown>;
}

/** `@react-native-community/netinfo`, as far as it is used. */
export interface NetInfoLike {
  addEventListener(listener: (state: { isConnected: boolean | null }) => void): () => void;
}

export interface ReactNativeModules {
  AppState: AppStateLike;
  AsyncStorage: AsyncStorageLike;
  /** Without it, losing the network is noticed when a request fails. */
  NetInfo?: NetInfoLike;
  /** A random id, as of expo-crypto's `randomUUID` or the package `uuid`. */
  uuid: () => string;
}

/** React Native as a place for a client. */
export function reactNative({ AppState, AsyncStorage, NetInfo, uuid }: ReactNativeModules): Env {
  let isOnline = true;
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    uuid,
    timer: startTimer,
    fetch: (url, init) => fetch(url, init),
    storage: {
      shared: true,
      keys: async (prefix) => (await AsyncStorage.getAllKeys()).filter((key) => key.startsWith(prefix)),
      get: (key) => AsyncStorage.getItem(key),
      set: async (key, value) => void (await AsyncStorage.setItem(key, value)),
      remove: async (key) => void (await AsyncStorage.removeItem(key)),
    },
    // iOS says `inactive` while something of the system covers the app for a moment.
    visible: () => AppState.currentState !== "background",
    online: () => isOnline,
    onChange(listener) {
      const app = AppState.addEventListener("change", () => listener());
      const net = NetInfo?.addEventListener((state) => {
        isOnline = state.isConnected !== false;
        listener();
      });
      return () => {
        app.remove();
        net?.();
      };
    },
    tabs: "alone",
  };
}
