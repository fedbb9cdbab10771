// An approval request: several groups decide, and this device answers for one of them.

import { decide } from "./decide.js";

export async function show(app, state) {
  decide(app, state, { title: app.t("ask_many.title"), lead: app.t("ask_many.lead") });
}
