// The two keys of a web device: WebAuthn with user verification, and a non-extractable key of WebCrypto. Each call of
// `navigator.credentials` is made at once, so that it is inside the click that led to it.

import { sha256 } from "../core/encoding/sha256.js";
import { compress } from "../core/keys/p256.js";
import { signedByHalves, webKeyWire, webSignature } from "../core/keys/web_key.js";
import { AuthenticatorFailed } from "./errors.js";

const ES256 = { name: "ECDSA", namedCurve: "P-256" };
const SIGN = { name: "ECDSA", hash: "SHA-256" };
const COSE_ES256 = -7;
const TIMEOUT_MS = 120_000;
/** No person reads a prompt and closes it this fast. */
const AT_ONCE_MS = 250;
// SubjectPublicKeyInfo of an uncompressed P-256 point (RFC 5480): all but the 65 bytes of the point.
const SPKI_LENGTH = 26 + 65;

/** Whether this browser has WebAuthn, be it with a security key alone. */
export function isSupported() {
  return typeof PublicKeyCredential === "function" && "credentials" in navigator;
}

/**
 * Whether this browser has an authenticator of its own with user verification (fingerprint, face, PIN).
 * @returns {Promise<boolean>}
 */
export async function isAvailable() {
  try {
    return (await PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable()) === true;
  } catch {
    return false;
  }
}

/**
 * Both halves of a new key. Call it inside the click.
 *
 * @param {{ origin: string, serverName: string, account: string, isPlatform?: boolean }} about isPlatform: false where
 *   the browser has no authenticator of its own, so that a security key may do
 * @returns {Promise<{ kind: "webauthn", wire: Uint8Array, credentialId: Uint8Array, transports: string[],
 *   localKey: CryptoKey }>} throws AuthenticatorFailed
 */
export function createWebKey({ origin, serverName, account, isPlatform = true }) {
  const created = prompted(() =>
    navigator.credentials.create({
      publicKey: {
        // No attestation is verified, so nothing depends on this challenge.
        challenge: random(32),
        rp: { id: hostOf(origin), name: serverName },
        // A new id each time: an authenticator replaces the credential of the same user.
        user: { id: random(32), name: account, displayName: account },
        pubKeyCredParams: [{ type: "public-key", alg: COSE_ES256 }],
        authenticatorSelection: {
          ...(isPlatform ? { authenticatorAttachment: "platform" } : {}),
          residentKey: "discouraged",
          requireResidentKey: false,
          userVerification: "required",
        },
        attestation: "none",
        timeout: TIMEOUT_MS,
      },
    }),
  );
  return withLocalKey(created, (credential, { localKey, point }) => ({
    kind: "webauthn",
    wire: webKeyWire(assertionPoint(credential.response), point, origin),
    credentialId: new Uint8Array(credential.rawId),
    transports: credential.response.getTransports?.() ?? [],
    localKey,
  }));
}

/** A local key alone, for servers with SIGIL_WEB_PLAIN_KEYS. */
export function createPlainKey() {
  const noPrompt = Promise.resolve(null);
  return withLocalKey(noPrompt, (_, { localKey, point }) => ({
    kind: "plain",
    wire: point,
    credentialId: null,
    transports: [],
    localKey,
  }));
}

async function withLocalKey(created, assemble) {
  // Begun at once, and joined: of a prompt that failed, no second rejection remains.
  const [credential, local] = await Promise.all([created, createLocalKey()]);
  return assemble(credential, local);
}

async function createLocalKey() {
  const pair = await crypto.subtle.generateKey(ES256, false, ["sign", "verify"]);
  const point = compress(new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
  return { localKey: pair.privateKey, point };
}

/**
 * A signature with user verification; with a plain key, of that key. Call it inside the click.
 *
 * @param {{ kind: string, wire: Uint8Array, credentialId: Uint8Array | null, transports?: string[], localKey: CryptoKey
 *   }} key
 * @param {Uint8Array} message tag ‖ message
 * @param {string} origin
 * @param {AbortSignal} [signal] closes the prompt
 * @returns {Promise<Uint8Array>} throws AuthenticatorFailed
 */
export function signWithVerification(key, message, origin, signal) {
  if (key.kind === "plain") return signLocally(key, message);
  const challenge = sha256(signedByHalves(message, key.wire));
  const credential = { type: "public-key", id: key.credentialId };
  const got = prompted(() =>
    navigator.credentials.get({
      publicKey: {
        challenge,
        rpId: hostOf(origin),
        allowCredentials: [key.transports?.length ? { ...credential, transports: [...key.transports] } : credential],
        userVerification: "required",
        timeout: TIMEOUT_MS,
      },
      ...(signal ? { signal } : {}),
    }),
  );
  return joined(got, signLocally(key, message));
}

async function joined(got, local) {
  const [assertion, half] = await Promise.all([got, local]);
  const { signature, authenticatorData, clientDataJSON } = assertion.response;
  const whole = webSignature(half, {
    signature: new Uint8Array(signature),
    authenticatorData: new Uint8Array(authenticatorData),
    clientDataJSON: new Uint8Array(clientDataJSON),
  });
  if (!whole) throw new AuthenticatorFailed("failed", "the signature is not ES256 in DER, or too large");
  return whole;
}

/**
 * A signature of the local half alone, without a prompt: to fetch, to register and to reject.
 * @returns {Promise<Uint8Array>} 64 bytes
 */
export async function signLocally(key, message) {
  const signed = key.kind === "plain" ? message : signedByHalves(message, key.wire);
  return new Uint8Array(await crypto.subtle.sign(SIGN, key.localKey, signed));
}

/** `call` runs at once. */
async function prompted(call) {
  const begun = performance.now();
  try {
    const credential = await call();
    if (!credential) throw new AuthenticatorFailed("failed", "the browser returned no credential");
    return credential;
  } catch (error) {
    throw error instanceof AuthenticatorFailed ? error : failure(error, performance.now() - begun);
  }
}

function failure(error, elapsed) {
  switch (error?.name) {
    case "AbortError":
      return new AuthenticatorFailed("cancelled");
    case "NotAllowedError":
      if (elapsed >= TIMEOUT_MS - 1000) return new AuthenticatorFailed("timeout");
      return new AuthenticatorFailed(elapsed < AT_ONCE_MS ? "removed" : "cancelled");
    case "NotSupportedError":
    case "ConstraintError":
    case "TypeError":
      return new AuthenticatorFailed("none", error.message);
    default:
      return new AuthenticatorFailed("failed", `${error?.name}: ${error?.message}`);
  }
}

/** Without CBOR: the browser parsed the key. @param {AuthenticatorAttestationResponse} response */
function assertionPoint(response) {
  const spki = response.getPublicKey?.();
  const algorithm = response.getPublicKeyAlgorithm?.();
  if (algorithm !== COSE_ES256 || spki?.byteLength !== SPKI_LENGTH) {
    throw new AuthenticatorFailed("failed", "the authenticator made no ES256 key");
  }
  return compress(new Uint8Array(spki).subarray(SPKI_LENGTH - 65));
}

function random(length) {
  return crypto.getRandomValues(new Uint8Array(length));
}

/** The rpId: the host without the port. */
function hostOf(origin) {
  return new URL(origin).hostname;
}
