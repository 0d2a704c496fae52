// One WebRTC session with the node, from the offer to its end: what WHIP and WHEP have in common.

import { fragment, iceOf, restarted, type Ice } from "./fragment";
import { post, type Refusal, type Resource } from "./resource";

/** How a session ended. Reasons are sentences for the reader. */
export type End =
  | Refusal
  /** It never came to a connection. */
  | { kind: "unconnected"; reason: string }
  /** It was connected, and is no longer. */
  | { kind: "broken"; reason: string }
  /** The node ended it. */
  | { kind: "closed" }
  /** It was ended here. */
  | { kind: "stopped" };

/** What a session needs. */
export interface Plan {
  url: string;
  /** The token, or "". */
  bearer: string;
  signal: AbortSignal;
  /** How long a connection may take once the offer is answered, in ms. */
  connectWithin: number;
  /** Whether a broken session is left to the node, whose stream then waits for us to come back. Others are ended. */
  lingers: boolean;
  /** Adds what is to be sent and received, before the offer is made. */
  prepare(peer: RTCPeerConnection): void;
  /** Connected, or again so. */
  connected(peer: RTCPeerConnection): void;
  /** The connection does not answer; a way back is being looked for. */
  disturbed(): void;
}

const GRACE_MS = 300;
// A restart that the server answered has so long to bring the connection back, and so many are tried.
const RESTART_MS = 4000;
const RESTARTS = 2;
// A server that does not answer is asked again, for so long: then another may, and a stream waits ten seconds by default.
const AGAIN_MS = 700;
const UNANSWERED_MS = 3000;
const TRICKLE_MS = 50;
const LOST = "The connection was lost.";

/** Runs a session until it ends or the signal is aborted. Never throws. */
export async function converse(plan: Plan): Promise<End> {
  if (typeof RTCPeerConnection === "undefined") return { kind: "unfit", reason: "This browser has no WebRTC." };
  const peer = new RTCPeerConnection({ bundlePolicy: "max-bundle", rtcpMuxPolicy: "require" });
  const session = new AbortController();
  const stop = AbortSignal.any([plan.signal, session.signal]);
  try {
    plan.prepare(peer);
    const offer = await peer.createOffer();
    const resource = await post(plan.url, offer.sdp ?? "", plan.bearer, plan.signal);
    if ("kind" in resource) return plan.signal.aborted ? { kind: "stopped" } : resource;
    const end = await carry(peer, offer, resource, plan, stop);
    if (end.kind !== "closed" && !(end.kind === "broken" && plan.lingers)) resource.end(false);
    return end;
  } catch (error) {
    return { kind: "unfit", reason: `This browser could not make an offer: ${(error as Error).message}` };
  } finally {
    session.abort();
    peer.close();
  }
}

async function carry(
  peer: RTCPeerConnection,
  offer: RTCSessionDescriptionInit,
  resource: Resource,
  plan: Plan,
  stop: AbortSignal,
): Promise<End> {
  // Addresses are gathered after the answer, which may have brought servers to gather with.
  if (resource.servers.length > 0) peer.setConfiguration({ ...peer.getConfiguration(), iceServers: resource.servers });
  const trickled = trickle(peer, resource, stop);
  trickled.expect(iceOf(offer.sdp ?? ""));
  addEventListener("pagehide", () => resource.end(true), { signal: stop });
  let ended: (end: End) => void = () => undefined;
  const over = new Promise<End>((resolve) => (ended = resolve));
  stop.addEventListener("abort", () => ended({ kind: "stopped" }), { once: true });
  if (stop.aborted) return { kind: "stopped" };
  try {
    await peer.setLocalDescription(offer);
    await peer.setRemoteDescription({ type: "answer", sdp: resource.answer });
  } catch (error) {
    return { kind: "unfit", reason: `This browser does not take the server's answer: ${(error as Error).message}` };
  }
  keep(peer, resource, trickled, plan, stop, ended);
  return over;
}

/** Follows the state of the connection; restarts ICE when the other side falls silent. */
function keep(
  peer: RTCPeerConnection,
  resource: Resource,
  trickled: Trickled,
  plan: Plan,
  stop: AbortSignal,
  ended: (end: End) => void,
): void {
  let answer = resource.answer;
  let live = false;
  let restarts = 0;
  // Since when a way back is looked for.
  let silentSince: number | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const later = (ms: number, what: () => void): void => {
    clearTimeout(timer);
    timer = setTimeout(what, ms);
  };
  stop.addEventListener("abort", () => clearTimeout(timer), { once: true });
  const seconds = Math.round(plan.connectWithin / 1000);
  later(plan.connectWithin, () => ended({ kind: "unconnected", reason: `WebRTC could not connect within ${seconds} s.` }));

  const broken = (): void => ended({ kind: "broken", reason: LOST });
  const restart = async (): Promise<void> => {
    if (stop.aborted) return;
    if (restarts >= RESTARTS) return broken();
    try {
      const offer = await peer.createOffer({ iceRestart: true });
      const ice = iceOf(offer.sdp ?? "");
      trickled.expect(ice);
      const received = ice === null ? null : await resource.restart(fragment(ice, []), UNANSWERED_MS);
      const next = received === null ? null : restarted(answer, received);
      if (stop.aborted) return;
      if (next === null) return broken();
      await peer.setLocalDescription(offer);
      await peer.setRemoteDescription({ type: "answer", sdp: next });
      answer = next;
      if (stop.aborted) return;
      restarts++;
      // Where the old path still worked, no change of state will tell.
      if (peer.connectionState === "connected") follow();
      else later(RESTART_MS, () => void restart());
    } catch {
      if (stop.aborted) return;
      if (performance.now() - (silentSince ?? 0) > UNANSWERED_MS) return broken();
      later(AGAIN_MS, () => void restart());
    }
  };
  const disturbed = (): void => {
    if (silentSince !== null) return;
    silentSince = performance.now();
    plan.disturbed();
    void restart();
  };

  const follow = (): void => {
    switch (peer.connectionState) {
      case "connected":
        clearTimeout(timer);
        live = true;
        restarts = 0;
        silentSince = null;
        return plan.connected(peer);
      case "disconnected":
        // While a restart is under way, its own time counts.
        if (silentSince === null) later(GRACE_MS, disturbed);
        return;
      case "failed":
        if (!live) return ended({ kind: "unconnected", reason: "WebRTC could not connect: the way to the server is blocked." });
        return disturbed();
      case "closed":
        return ended({ kind: "closed" });
    }
  };
  peer.addEventListener("connectionstatechange", follow, { signal: stop });
  const transport = [...peer.getReceivers(), ...peer.getSenders()].find((side) => side.transport !== null)?.transport;
  transport?.addEventListener("statechange", () => transport.state === "closed" && ended({ kind: "closed" }), { signal: stop });
  // Another network: the old path will not come back.
  addEventListener("online", () => live && disturbed(), { signal: stop });
  follow();
}

/** Our candidates on their way to the server. */
interface Trickled {
  /** From now on only candidates of these credentials are sent: with others the server would restart ICE. */
  expect(ice: Ice | null): void;
}

/** Sends our candidates as they are found, a few at a time. */
function trickle(peer: RTCPeerConnection, resource: Resource, stop: AbortSignal): Trickled {
  let expected: string | undefined;
  let found: string[] = [];
  let last = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    timer = undefined;
    const ice = iceOf(peer.localDescription?.sdp ?? "");
    const candidates = found;
    found = [];
    if (ice === null || ice.ufrag !== expected || stop.aborted) return;
    void resource.trickle(fragment(ice, candidates, last));
  };
  peer.addEventListener(
    "icecandidate",
    ({ candidate }) => {
      if (candidate === null) last = true;
      else if (candidate.candidate === "") return;
      else {
        last = false;
        found.push(candidate.candidate);
      }
      timer ??= setTimeout(flush, TRICKLE_MS);
    },
    { signal: stop },
  );
  stop.addEventListener("abort", () => clearTimeout(timer), { once: true });
  return { expect: (ice) => (expected = ice?.ufrag) };
}
