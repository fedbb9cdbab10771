// How the server and this device identify themselves to a person.

import { pictogram as namesOf } from "../core/pictogram.js";
import { element, facts, isolated, pictogram, showId } from "../dom.js";

/** A long id in groups, which is copied without gaps. */
export function id(value) {
  const node = element("span", { class: "code id", translate: "no" });
  showId(node, value);
  return node;
}

export function serverFacts(app) {
  const { t } = app;
  const { serverId, serverName, baseUrl } = app.device;
  return [
    pictogram(namesOf(serverId), t("identity.pictogram")),
    facts([
      [t("settings.server.name"), isolated(serverName)],
      [t("settings.server.address"), isolated(baseUrl)],
      [t("identity.id"), id(serverId)],
    ]),
  ];
}

export function deviceFacts(app) {
  const { t } = app;
  const { account, fingerprint, enrolledAt } = app.device;
  const since = new Intl.DateTimeFormat(app.locale, { dateStyle: "long" }).format(enrolledAt);
  return [
    pictogram(namesOf(fingerprint), t("identity.device")),
    facts([
      [t("settings.device.account"), isolated(account)],
      [t("settings.device.since"), since],
      [t("settings.device.fingerprint"), id(fingerprint)],
    ]),
  ];
}
