// Before the widget is loaded, calls wait; afterwards they go to it.
window.AWChat ??= (...call) => {
  window.AWChat.q = [...(window.AWChat.q ?? []), call];
};

window.AWChat("boot", {
  userScope: document.documentElement.dataset.user,
  getToken: async () => (await fetch("/support-token")).text(),
});
