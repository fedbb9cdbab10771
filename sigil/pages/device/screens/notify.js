// Notifications: why, the permission, and what to do where the browser refuses it. The app works without them.

import { announce, button, element, fill, mark, notice, text } from "../dom.js";
import { isAndroid, isIos } from "../fitness.js";
import { notificationState, subscribe } from "../notifications.js";

export async function show(app) {
  const state = notificationState(app);
  if (state === "denied") return showDenied(app);
  if (state === "unsupported" || state === "no_relay") return showWithout(app, state);
  showOffer(app);
}

function leave(app) {
  return app.go({ screen: "ready" });
}

function showOffer(app) {
  const { t, signal } = app;
  const result = element("div", { role: "alert" });
  const work = async () => {
    // Inside the click: browsers show the question only then.
    const permission = await Notification.requestPermission();
    if (permission === "granted") await subscribe(app);
    return permission;
  };
  const turnOn = button(
    t("notify.button"),
    async () => {
      result.replaceChildren();
      const permission = await app.busy(turnOn, work()).catch(() => "failed");
      if (signal.aborted) return;
      if (permission === "denied") return showDenied(app);
      if (permission === "failed") return result.replaceChildren(notice("warning", text(t("notify.failed"))));
      // The person closed the question: the button is still there.
      if (permission !== "granted") return;
      await app.store.remove("notifications");
      announce(t("notify.on"));
      leave(app);
    },
    { kind: "primary" },
  );
  fill(app, {
    title: t("notify.title"),
    lead: t("notify.lead"),
    mark: mark("bell"),
    body: [result],
    actions: [turnOn, button(t("notify.later"), () => leave(app), { kind: "quiet" })],
  });
}

function showWithout(app, state) {
  const { t } = app;
  fill(app, {
    title: t(`notify.${state}.title`),
    lead: t(`notify.${state}.lead`),
    actions: [button(t("notify.continue"), () => leave(app), { kind: "primary" })],
  });
}

function showDenied(app) {
  const { t } = app;
  const values = { host: location.host, name: app.serverName };
  const steps = ["one", "two"].map((step) => t(`notify.denied.${whereToAllow(app)}.${step}`, values));
  const list = [...steps, t("notify.denied.three")].map((step) => element("li", {}, step));
  fill(app, {
    title: t("notify.denied.title"),
    lead: t("notify.denied.lead"),
    body: [element("h2", {}, t("notify.denied.how")), element("ol", { class: "how" }, ...list)],
    actions: [
      button(t("notify.continue"), () => leave(app), { kind: "primary" }),
      button(t("notify.denied.check"), () => app.go({ screen: "notify" }), { kind: "quiet" }),
    ],
  });
}

/** The texts that fit this browser, by the name that it reports. */
function whereToAllow(app) {
  if (isIos()) return "ios";
  if (isAndroid() && app.installed) return "android";
  if (/Firefox\//.test(navigator.userAgent)) return "firefox";
  return /Chrome\//.test(navigator.userAgent) ? "chrome" : "safari";
}
