// What is decided, for people: the server, the account, and everything that the signature covers.

import { pictogram } from "../../core/pictogram.js";
import { box, element, facts, isolated } from "../../dom.js";
import { memberList } from "./values.js";

const FINGERPRINT = /^[0-9a-f]{64}$/;

/**
 * @param {import("../../client/inbox.js").Checked} item every check of a device was made
 * @returns {{nodes: Element[], end: Element}} `end` is after the last parameter
 */
export function requestNodes(app, item) {
  const description = element("p", { class: "description", id: "ask-description", dir: "auto" }, item.description);
  const rows = [[app.t("ask.type"), element("code", { dir: "ltr" }, item.action)]];
  if (item.type === "approval") rows.push(...groupRows(app, item));
  const nodes = [box("card request", sender(app), description, facts(rows))];
  if (item.params?.length) nodes.push(element("h2", {}, app.t("ask.details")), memberList(app.t, item.params));
  const end = element("div", { class: "request-end", "aria-hidden": "true" });
  return { nodes: [...nodes, end], end };
}

/** The server that signed the request, and the account of this device: from this device's own record. */
function sender(app) {
  const { serverName, serverId, account } = app.device;
  const names = pictogram(serverId);
  const pictures = names.map((name) => element("img", { src: `/assets/pictograms/${name}.svg`, alt: "", width: "26", height: "26" }));
  return box(
    "sender",
    element("p", { class: "server" }, isolated(serverName)),
    box("identity", box("pictures", ...pictures), element("p", { class: "names", translate: "no" }, names.join(" "))),
    element("p", { class: "account" }, `${app.t("ask.account")} `, isolated(account)),
  );
}

function groupRows(app, item) {
  const rows = [[app.t("ask.required"), app.t("ask.groups", { count: item.required })]];
  if (item.rejectPolicy === "reject_on_first") rows.push([app.t("ask.veto_name"), app.t("ask.veto")]);
  const requester = item.params?.find(([name]) => name === "requested_by")?.[1];
  // A fingerprint: its five names are what a person recognises. The member itself is in the list below.
  if (typeof requester === "string" && FINGERPRINT.test(requester)) {
    const own = requester === app.device.fingerprint ? app.t("ask.this_device") : pictogram(requester).join(" ");
    rows.push([app.t("ask.requester"), own]);
  }
  return rows;
}
