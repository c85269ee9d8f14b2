import { type AwChat, createAwChat } from "@aw-chat/core";
import { type ReactNativeModules, reactNative } from "@aw-chat/core/react-native";

// import AsyncStorage from "@react-native-async-storage/async-storage";
// import NetInfo from "@react-native-community/netinfo";
// import { randomUUID } from "expo-crypto";
// import { AppState } from "react-native";
// phoneChat({ AppState, AsyncStorage, NetInfo, uuid: randomUUID }, user.id, fetchToken);

export function phoneChat(modules: ReactNativeModules, userScope: string, getToken: () => Promise<string>): AwChat {
  return createAwChat({ serverUrl: "https://support.example.com", userScope, getToken, env: reactNative(modules) });
}

/** When a notice arrives, look at once. */
export function onNotice(chat: AwChat): void {
  chat.wake();
}

/** At sign-out: the device is unregistered, and nothing of the user stays. */
export async function signOut(chat: AwChat, deletePushToken: () => void): Promise<void> {
  const { unregistered } = await chat.logout();
  if (!unregistered) deletePushToken();
}
