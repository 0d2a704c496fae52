// Sentences of the publish page. Pure.

/** Why there is no camera, microphone or screen: what the browser threw, as a sentence with the way out. */
export function deviceProblem(error: unknown, what: "camera" | "screen"): string {
  const name = error instanceof Error || (typeof error === "object" && error !== null && "name" in error) ? String((error as { name: unknown }).name) : "";
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return what === "screen"
        ? "The browser was not allowed to share the screen. Choose a screen or window when it asks."
        : "The browser was not allowed to use camera and microphone. Allow them for this page (the icon beside its address), then try again.";
    case "NotFoundError":
      return "No such camera or microphone is connected. Connect one, or choose another.";
    case "NotReadableError":
    case "AbortError":
      return "The camera or microphone does not answer. Another program may be using it: end that one, then try again.";
    case "OverconstrainedError":
      return "The chosen camera or microphone is no longer there. Choose another.";
    default:
      return `The browser gave no picture${name === "" ? "" : ` (${name})`}. Try another device.`;
  }
}

/** Why nothing can be captured on this page at all; "" when it can. */
export function captureProblem(secure: boolean, devices: boolean, href: string): string {
  if (devices) return "";
  if (secure) return "This browser cannot capture camera or screen.";
  let address = "";
  try {
    const url = new URL(href);
    address = ` Open this page as https://${url.hostname}/… instead, with the server's HTTPS port.`;
  } catch {
    address = "";
  }
  return `Browsers give camera and screen only to pages that come by https, or from localhost.${address}`;
}

const LIMITS: Record<string, string> = {
  cpu: "This computer",
  bandwidth: "The connection",
  other: "The browser",
};

/** What holds the quality down. */
export const limitation = (reason: string | null): string => (reason === null ? "Nothing" : (LIMITS[reason] ?? reason));
