// Language, notifications, which server this is, this device, and its removal.

import { announce, box, button, element, fill, mark, notice, text } from "../dom.js";
import { notificationState, subscribe, unsubscribe } from "../notifications.js";
import { LANGUAGES } from "../texts/language.js";
import { deviceFacts, serverFacts } from "./identity.js";

/** @param {{part?: "remove" | "removed"}} state */
export async function show(app, state) {
  const { t, signal } = app;
  if (state.part === "remove") return showRemoval(app);
  const [language, stopped] = await Promise.all([app.store.get("language"), app.store.get("notifications")]);
  if (signal.aborted) return;
  const body = [languageCard(app, language)];
  if (app.device) body.push(notificationCard(app, stopped === "off"), ...identityCards(app), removal(app));
  body.push(text(t("settings.version", { version: app.version }), "quiet"));
  fill(app, { title: t("settings.title"), back: true, body });
}

function card(title, ...children) {
  return element("section", { class: "card" }, element("h2", {}, title), ...children);
}

function languageCard(app, set) {
  const select = element("select", { id: "language" });
  select.append(element("option", { value: "" }, app.t("settings.language.auto")));
  for (const [tag, name] of Object.entries(LANGUAGES)) select.append(element("option", { value: tag, lang: tag }, name));
  select.value = set ?? "";
  select.addEventListener("change", async () => {
    const chosen = select.value || undefined;
    await app.store.set("language", chosen);
    await app.useLanguage(chosen);
    await app.go(app.state);
  });
  return element("section", { class: "card" }, element("h2", {}, element("label", { for: "language" }, app.t("settings.language"))), select);
}

function notificationCard(app, stopped) {
  const { t } = app;
  const permission = notificationState(app);
  const state = permission === "granted" && (stopped || !app.device.registration) ? "off" : permission;
  const result = element("div", { role: "status" });
  const again = () => app.go({ screen: "settings" });
  const say = (key) => result.replaceChildren(notice("note", text(t(key))));
  const renew = button(t("settings.notifications.renew"), async () => {
    try {
      await app.busy(renew, subscribe(app));
      say("settings.notifications.renewed");
    } catch {
      say("settings.notifications.failed");
    }
  });
  const stop = button(t("settings.notifications.stop"), async () => {
    await app.store.set("notifications", "off");
    // The subscription has ended in the browser; a relay that is unreachable learns it from the push service.
    await app.busy(stop, unsubscribe(app).catch(() => {}));
    again();
  });
  const start = button(t("settings.notifications.start"), () => app.go({ screen: "notify" }));
  const how = button(t("settings.notifications.how"), () => app.go({ screen: "notify" }));
  const buttons = { granted: [renew, stop], off: [start], default: [start], denied: [how] }[state] ?? [];
  return card(t("settings.notifications"), text(t(`settings.notifications.${state}`)), box("tools", ...buttons), result);
}

function identityCards(app) {
  const { t } = app;
  const plain = app.device.kind === "plain" ? [notice("warning", text(t("settings.device.plain")))] : [];
  return [card(t("settings.server"), ...serverFacts(app)), card(t("settings.device"), ...deviceFacts(app), ...plain)];
}

function removal(app) {
  const remove = () => app.go({ screen: "settings", part: "remove" });
  return box("tools", button(app.t("settings.remove"), remove, { kind: "danger" }));
}

function showRemoval(app) {
  const { t } = app;
  const remove = button(t("settings.remove.yes"), () => app.busy(remove, removeDevice(app)), { kind: "danger filled" });
  fill(app, {
    title: t("settings.remove.title"),
    lead: t("settings.remove.lead"),
    mark: mark("bad"),
    body: [text(t("settings.remove.also"))],
    actions: [remove, button(t("settings.remove.no"), () => app.go({ screen: "settings" }))],
  });
}

async function removeDevice(app) {
  // While the key is still there: the relay accepts only its signature.
  await unsubscribe(app).catch(() => {});
  await app.store.clear();
  app.device = null;
  announce(app.t("settings.removed"));
  await app.root();
}
