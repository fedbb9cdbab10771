// The texts of the app in the person's language.

const PARTS = ["app", "enrol", "ask"];

/**
 * The function that returns texts: `t(key, values)` replaces each {name} by its value. With a `count` among the values,
 * the text is that of the key with the plural category of the language: `key.one`, `key.other`.
 * @param {string} language
 * @returns {Promise<(key: string, values?: Record<string, unknown>) => string>}
 */
export async function loadTexts(language) {
  const texts = {};
  for (const part of PARTS) Object.assign(texts, (await import(`./${language}/${part}.js`)).default);
  const plural = new Intl.PluralRules(language);
  return (key, values = {}) => {
    const form = "count" in values ? `${key}.${plural.select(values.count)}` : key;
    const found = texts[form] ?? texts[`${key}.other`] ?? texts[key];
    // A missing text must not hide a button.
    if (found === undefined) return key;
    return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  };
}
