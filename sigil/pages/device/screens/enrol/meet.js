// Which server this is, and for which account: the person decides before a key is made.

import { box, button, element, facts, fill, isolated, notice, pictogram, showId, text } from "../../dom.js";
import { meet } from "../../client/enrolment.js";
import { showEnd, showError } from "./ended.js";
import { keep, unfinished } from "./progress.js";

export async function show(app) {
  const { signal } = app;
  try {
    const row = await unfinished(app);
    if (signal.aborted) return;
    if (!row) return await showEnd(app, "expired");
    if (!row.meeting) {
      showWaiting(app);
      const meeting = await meet(app.server, row.code, { claimId: row.claimId, signal });
      await keep(app, row, { meeting });
      if (signal.aborted) return;
    }
    showMeeting(app, row);
  } catch (error) {
    if (!signal.aborted) await showError(app, error, { screen: "meet" });
  }
}

function showWaiting(app) {
  fill(app, { title: app.t("enrol.meet.waiting"), step: [2, 4], body: [box("waiting", app.server.baseUrl)] });
}

function showMeeting(app, row) {
  const { t } = app;
  const { serverName, baseUrl, account, serverId, expiresAt } = row.meeting;
  const id = element("span", { class: "code id" });
  showId(id, serverId);
  const until = new Intl.DateTimeFormat(app.locale, { timeStyle: "short" }).format(expiresAt);
  const body = [
    box(
      "card",
      facts([
        [t("enrol.meet.account"), breakable(account, "meet-account")],
        [t("enrol.meet.service"), isolated(serverName)],
        [t("enrol.meet.address"), breakable(baseUrl)],
      ]),
    ),
    element("h2", {}, t("enrol.meet.pictures")),
    pictogram(row.meeting.pictogram, t("enrol.meet.pictures")),
    facts([[t("enrol.meet.id"), id]]),
    text(t("enrol.meet.until", { time: until }), "quiet"),
  ];
  if (app.device) body.unshift(notice("warning", text(t("enrol.meet.replaces", { account: app.device.account }))));
  fill(app, {
    title: t("enrol.meet.title"),
    lead: t("enrol.meet.lead"),
    step: [2, 4],
    body,
    actions: [
      box(
        "pair",
        button(t("enrol.meet.cancel"), () => showEnd(app, "stopped")),
        button(t("enrol.meet.continue"), (event) => app.busy(event.currentTarget, agree(app, row)), { kind: "primary" }),
      ),
    ],
  });
}

/** Breaks a long address after its punctuation. A copy of the text has no breaks. */
function breakable(content, className = "") {
  const node = isolated("", { class: className });
  for (const part of content.match(/[^@./:]*[@./:]?/g)) node.append(part, element("wbr"));
  return node;
}

async function agree(app, row) {
  try {
    await keep(app, row, { agreed: true });
    app.go({ screen: "key" });
  } catch (error) {
    await showError(app, error, { screen: "meet" });
  }
}
