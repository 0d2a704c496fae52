// The door to the node's REST API: adds the admin token, and turns every failure into one kind of error.

import type { ApplicationInfo, ClusterNode, Health, LiveStream, Result, StreamPlace, SystemResources } from "./types";

/** Why a call failed: `auth` asks for a token, `unreachable` is no answer at all, `server` an answer that says no. */
export type Failure = "auth" | "unreachable" | "server";

/** A failed call; the message is a sentence for the reader. */
export class ApiError extends Error {
  constructor(
    readonly failure: Failure,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

const TOKEN = "sluice.adminToken";
const TIMEOUT_MS = 8000;

/** The admin token of this browser tab. It is kept for the session only, and never leaves for another site. */
export const token = {
  get: (): string => sessionStorage.getItem(TOKEN) ?? "",
  set: (value: string): void => (value === "" ? sessionStorage.removeItem(TOKEN) : sessionStorage.setItem(TOKEN, value)),
};

async function call(path: string, method: "GET" | "POST" | "DELETE", signal?: AbortSignal): Promise<unknown> {
  const headers: Record<string, string> = { accept: "application/json" };
  const secret = token.get();
  if (secret !== "") headers["authorization"] = `Bearer ${secret}`;
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(path, {
      method,
      headers,
      cache: "no-store",
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    text = await answer.text();
  } catch {
    throw new ApiError("unreachable", "The node does not answer.");
  }
  if (!answer.ok) {
    const auth = answer.status === 401 || answer.status === 403;
    throw new ApiError(auth ? "auth" : "server", messageOf(text, answer.status));
  }
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new ApiError("server", `The answer to ${path} is not JSON.`);
  }
}

/** The server's own words where it gave some: AMS's Result, or a plain text; else the status. */
export function messageOf(body: string, status: number): string {
  const fallback = `The node answered with status ${status}.`;
  const text = body.trim();
  if (text === "") return fallback;
  try {
    const parsed = JSON.parse(text) as unknown;
    if (typeof parsed === "object" && parsed !== null && "message" in parsed) {
      const { message } = parsed;
      if (typeof message === "string" && message !== "") return message;
    }
    return fallback;
  } catch {
    return text.startsWith("<") ? fallback : text.slice(0, 300);
  }
}

/** An array as it came, or an error: what follows relies on it. */
function list<T>(answer: unknown, what: string): T[] {
  if (Array.isArray(answer)) return answer as T[];
  throw new ApiError("server", `The node's answer about ${what} is not a list.`);
}

/** The node's CPU, memory, traffic. */
export const systemResources = async (signal?: AbortSignal): Promise<SystemResources> =>
  (await call("/rest/v2/system-resources", "GET", signal)) as SystemResources;

/** The streams that are live now, in every application. */
export const liveStreams = async (signal?: AbortSignal): Promise<LiveStream[]> =>
  list(await call("/rest/v2/live-streams", "GET", signal), "live streams");

/** The applications with their counts. */
export const applications = async (signal?: AbortSignal): Promise<ApplicationInfo[]> =>
  list(await call("/rest/v2/applications-info", "GET", signal), "applications");

/** What the node says of itself and of its cluster. */
export const health = async (signal?: AbortSignal): Promise<Health> => (await call("/readyz", "GET", signal)) as Health;

/** The members of the cluster; none when the node stands alone. */
export const clusterNodes = async (signal?: AbortSignal): Promise<ClusterNode[]> =>
  list(await call("/rest/v2/cluster/nodes/0/1000", "GET", signal), "the cluster");

/** Who has which stream. */
export const clusterStreams = async (signal?: AbortSignal): Promise<StreamPlace[]> =>
  list(await call("/rest/v2/cluster/streams", "GET", signal), "the streams of the cluster");

/** A call that answers with AMS's Result. */
async function change(path: string, method: "POST" | "DELETE", otherwise: string): Promise<void> {
  const result = (await call(path, method)) as Partial<Result> | null;
  if (result?.success !== true) throw new ApiError("server", result?.message || otherwise);
}

/** Ends a live stream: its publisher is disconnected. */
export const stopStream = (app: string, id: string): Promise<void> =>
  change(`/${encodeURIComponent(app)}/rest/v2/broadcasts/${encodeURIComponent(id)}/stop`, "POST", "The node did not stop the stream.");

/** Lets a node take no new publishers and viewers, or lets it take them again. */
export const drainNode = (id: string, draining: boolean): Promise<void> =>
  change(`/rest/v2/cluster/node/${encodeURIComponent(id)}/drain`, draining ? "POST" : "DELETE", "The node did not do it.");

/** Forgets a dead node. */
export const removeNode = (id: string): Promise<void> =>
  change(`/rest/v2/cluster/node/${encodeURIComponent(id)}`, "DELETE", "The node was not removed.");
