// The pictogram of a fingerprint: five names (docs/protocol.md, 2.2). Never authentication.

const NAMES = (
  "apple banana grapes orange lemon cherry strawberry kiwi carrot corn broccoli mushroom pepper avocado onion peanut " +
  "pizza burger taco donut cookie cake cupcake popcorn car taxi bus rocket plane helicopter sailboat bicycle " +
  "dog cat fish butterfly bee fox lion elephant tree sunflower cactus clover blossom rainbow star moon " +
  "house mountain peak volcano island moai tent castle key bell books guitar anchor crown diamond fire"
).split(" ");

/**
 * @param {string} fingerprint at least 8 hex characters
 * @returns {string[]} five names; `/assets/pictograms/<name>.svg` is the drawing of each
 */
export function pictogram(fingerprint) {
  const x = Number.parseInt(fingerprint.slice(0, 8), 16);
  return [26, 20, 14, 8, 2].map((shift) => NAMES[(x >>> shift) & 63]);
}
