// The two keys of a web device: WebAuthn with user verification, and a non-extractable key of WebCrypto.

/** Whether this browser has a platform authenticator with user verification. @returns {Promise<boolean>} */
export async function isAvailable() {
  throw new Error("not yet");
}
