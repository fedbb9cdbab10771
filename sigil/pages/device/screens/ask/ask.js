// A challenge: one device decides.

import { decide } from "./decide.js";

export async function show(app, state) {
  decide(app, state, { title: app.t("ask.title"), lead: app.t("ask.lead") });
}
