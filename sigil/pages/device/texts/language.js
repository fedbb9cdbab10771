// The language of the app, and the one text that the worker needs: workers cannot load the others on demand.

export const LANGUAGES = { en: "English", de: "Deutsch", fr: "Français" };

/** The language to use: the one that was set here, else the first of the browser's that the app has. */
export function chooseLanguage(set, preferred = navigator.languages) {
  const wanted = [set, ...preferred].map((tag) => String(tag ?? "").toLowerCase().split("-")[0]);
  return wanted.find((language) => Object.hasOwn(LANGUAGES, language)) ?? "en";
}

/** The text of each notification: that there is a request, never what it is about. */
export const NOTIFICATION = {
  en: "A request waits for your answer",
  de: "Eine Anfrage wartet auf Ihre Antwort",
  fr: "Une demande attend votre réponse",
};
