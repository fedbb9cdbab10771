// Reads a QR code with the camera. Safari and Chromium on Linux have no BarcodeDetector, so one decoder serves all.

/** Between two pictures, or as long as the last one took: the page keeps half of the time, and the phone stays cool. */
const PAUSE_MS = 150;
/** Pixels of the longer side that is decoded: enough for a code that fills a third of the picture. */
const SIDE = 640;
/** After a picture that took longer (noise, foliage) the next one is smaller. */
const SLOW_MS = 250;
const SMALL_SIDE = 400;
/** An enrolment's link is shorter; a longer text is not passed on. */
const MAX_TEXT = 1024;

/** Why the camera cannot be used: "denied", "none", "busy" or "failed". */
export class CameraProblem extends Error {
  constructor(reason, cause) {
    super(`camera: ${reason}`, { cause });
    this.reason = reason;
  }
}

const REASONS = {
  NotAllowedError: "denied",
  SecurityError: "denied",
  NotFoundError: "none",
  OverconstrainedError: "none",
  NotReadableError: "busy",
  AbortError: "busy",
};

/**
 * Shows the camera in `video` until `signal` is aborted or the page is hidden, and calls `onText` for each text that is
 * read. Resolves when the camera has stopped; throws CameraProblem.
 * @param {HTMLVideoElement} video
 * @param {{signal: AbortSignal, onText: (text: string) => void, onPlaying?: () => void}} options
 */
export async function scan(video, { signal, onText, onPlaying }) {
  const stream = await open();
  const stopped = new AbortController();
  const stop = () => stopped.abort();
  signal.addEventListener("abort", stop, { once: true });
  document.addEventListener("visibilitychange", () => document.hidden && stop(), { signal: stopped.signal });
  // The person ends the permission, or unplugs the camera.
  for (const track of stream.getTracks()) track.addEventListener("ended", stop, { signal: stopped.signal });
  if (signal.aborted || document.hidden) stop();
  try {
    video.srcObject = stream;
    const [decode] = await Promise.all([decoder(), video.play()]);
    if (!stopped.signal.aborted) onPlaying?.();
    await readUntil(stopped.signal, video, decode, onText);
  } catch (error) {
    // Leaving the screen interrupts play().
    if (!stopped.signal.aborted) throw new CameraProblem("failed", error);
  } finally {
    stop();
    signal.removeEventListener("abort", stop);
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
  }
}

async function open() {
  // Absent outside of a secure context.
  if (!navigator.mediaDevices?.getUserMedia) throw new CameraProblem("none");
  const wanted = { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } };
  try {
    return await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  } catch (error) {
    throw new CameraProblem(REASONS[error.name] ?? "failed", error);
  }
}

async function decoder() {
  await import("../../vendor/jsQR.js");
  return self.jsQR;
}

async function readUntil(ended, video, decode, onText) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let side = SIDE;
  while (!ended.aborted) {
    const begun = performance.now();
    const text = read(video, canvas, context, decode, side);
    const spent = performance.now() - begun;
    if (text) onText(text);
    side = spent > SLOW_MS ? SMALL_SIDE : SIDE;
    await pause(ended, Math.max(PAUSE_MS, spent));
  }
}

function read(video, canvas, context, decode, side) {
  const { videoWidth, videoHeight } = video;
  if (!videoWidth || !videoHeight) return "";
  const scale = Math.min(1, side / Math.max(videoWidth, videoHeight));
  canvas.width = Math.round(videoWidth * scale);
  canvas.height = Math.round(videoHeight * scale);
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  // Both: a page in dark mode may show a light code on a dark ground.
  const text = decode(data, canvas.width, canvas.height, { inversionAttempts: "attemptBoth" })?.data ?? "";
  return text.length <= MAX_TEXT ? text : "";
}

function pause(ended, milliseconds) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      ended.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    ended.addEventListener("abort", end);
  });
}
