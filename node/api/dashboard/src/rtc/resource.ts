// The HTTP side of WHIP (RFC 9725) and WHEP: an offer is posted, the session is a resource that is patched and deleted.

import { iceServers } from "./link";

/** Why an offer was not answered. Reasons are sentences for the reader. */
export type Refusal =
  /** Nobody publishes it. */
  | { kind: "absent" }
  /** Somebody else publishes under this id. */
  | { kind: "taken"; reason: string }
  | { kind: "forbidden"; reason: string }
  /** Not now: the server drains or is full; ask again after so many ms. */
  | { kind: "busy"; reason: string; after: number }
  /** The descriptions do not fit: codecs, or the server knows nothing of WebRTC. */
  | { kind: "unfit"; reason: string }
  | { kind: "unreachable"; reason: string };

/** A session on the server. */
export interface Resource {
  answer: string;
  servers: RTCIceServer[];
  /** Sends a fragment with more candidates; a server that does not take them does without. */
  trickle(fragment: string): Promise<void>;
  /** Restarts ICE; answers the server's fragment, or `null` when the server no longer knows the session. Throws without an answer within so many ms. */
  restart(fragment: string, within: number): Promise<string | null>;
  /** Ends the session; `keepalive` lets the request outlive the page. */
  end(keepalive: boolean): void;
}

const TIMEOUT_MS = 10_000;
const PATIENCE_MS = 4000;
const SHORTEST_MS = 500;
const LONGEST_MS = 60_000;
const LONGEST_TEXT = 300;

/** How long to wait by a `Retry-After` header (RFC 9110, 10.2.3), in ms; `now` is Unix time in ms. */
export function retryAfter(header: string | null, now: number): number {
  const text = (header ?? "").trim();
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : text === "" ? Number.NaN : Date.parse(text) - now;
  return Number.isNaN(wait) ? PATIENCE_MS : Math.min(LONGEST_MS, Math.max(SHORTEST_MS, wait));
}

/** The server's own words where it gave some, with a capital and a full stop: others follow them. */
function sentence(body: string, type: string | null, otherwise: string): string {
  const text = words(body.trim(), type).trim().slice(0, LONGEST_TEXT);
  if (text === "") return otherwise;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

/** What a body says; nothing when it is a page, for example of a proxy. */
function words(body: string, type: string | null): string {
  if (body.startsWith("<")) return "";
  if (!(type ?? "").includes("json")) return body;
  try {
    const { message } = JSON.parse(body) as { message?: unknown };
    return typeof message === "string" ? message : "";
  } catch {
    return "";
  }
}

/** What a refusing answer means. */
export function refusalOf(status: number, headers: Headers, body: string, now: number): Refusal {
  const said = (otherwise: string): string => sentence(body, headers.get("content-type"), otherwise);
  switch (status) {
    case 401:
    case 403:
      return { kind: "forbidden", reason: said("This needs a permission that the address of this page does not carry.") };
    case 404:
      return { kind: "absent" };
    case 409:
      return { kind: "taken", reason: said("Somebody else publishes under this stream id.") };
    case 429:
    case 503:
      return { kind: "busy", reason: said("The server takes nobody new at the moment."), after: retryAfter(headers.get("retry-after"), now) };
    case 405:
    case 501:
      return { kind: "unfit", reason: "This server does not offer WebRTC." };
    case 400:
    case 406:
    case 415:
    case 422:
      return { kind: "unfit", reason: said("The server and this browser have no codec in common.") };
    default:
      return { kind: "unreachable", reason: `The server answers with an error (${status}).` };
  }
}

const FRAGMENT = "application/trickle-ice-sdpfrag";

/** Posts `offer` to `url`. Never throws; gives up when `signal` is aborted. */
export async function post(url: string, offer: string, bearer: string, signal: AbortSignal): Promise<Resource | Refusal> {
  const authorization: Record<string, string> = bearer === "" ? {} : { authorization: `Bearer ${bearer}` };
  const limit = (ms = TIMEOUT_MS): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(ms)]);
  let answer: Response;
  let body: string;
  try {
    answer = await fetch(url, {
      method: "POST",
      headers: { ...authorization, "content-type": "application/sdp", accept: "application/sdp" },
      body: offer,
      cache: "no-store",
      signal: limit(),
    });
    body = await answer.text();
  } catch {
    return { kind: "unreachable", reason: "The server does not answer." };
  }
  if (answer.status !== 201) {
    if (answer.ok) return { kind: "unfit", reason: "This server does not offer WebRTC." };
    return refusalOf(answer.status, answer.headers, body, Date.now());
  }
  const location = answer.headers.get("location");
  const place = location === null ? null : new URL(location, new URL(answer.url || url, globalThis.location?.href));
  let tag = answer.headers.get("etag");
  let trickles = true;
  const patch = (fragment: string, match: string, within = TIMEOUT_MS): Promise<Response> =>
    fetch(place ?? url, {
      method: "PATCH",
      headers: { ...authorization, "content-type": FRAGMENT, "if-match": match },
      body: fragment,
      signal: limit(within),
    });
  return {
    answer: body,
    servers: iceServers(answer.headers.get("link")),
    trickle: async (fragment) => {
      if (place === null || tag === null || !trickles) return;
      try {
        const taken = await patch(fragment, tag);
        if (taken.status === 405 || taken.status === 501) trickles = false;
      } catch {
        // The server learns of our addresses by our checks, too.
      }
    },
    restart: async (fragment, within) => {
      if (place === null) return null;
      const taken = await patch(fragment, "*", within);
      const text = await taken.text();
      if (taken.status >= 500) throw new Error(`the server answers with an error (${taken.status})`);
      if (taken.status !== 200) return null;
      tag = taken.headers.get("etag") ?? tag;
      return text;
    },
    end: (keepalive) => {
      if (place !== null) fetch(place, { method: "DELETE", headers: authorization, keepalive }).catch(() => undefined);
    },
  };
}
