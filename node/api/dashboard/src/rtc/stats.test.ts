import { expect, test } from "vitest";
import { received, sent, type Entry } from "./stats";

const path: Entry[] = [
  { type: "transport", id: "T", selectedCandidatePairId: "P2" },
  { type: "candidate-pair", id: "P1", nominated: true, state: "succeeded", currentRoundTripTime: 9 },
  { type: "candidate-pair", id: "P2", nominated: true, state: "succeeded", currentRoundTripTime: 0.04 },
];

const watching = (at: number, bytes: number, waited: number, played: number): Entry[] => [
  ...path,
  { type: "codec", id: "C", mimeType: "video/H264" },
  { type: "inbound-rtp", id: "A", kind: "audio", timestamp: at, bytesReceived: bytes / 10, packetsLost: 1 },
  {
    type: "inbound-rtp",
    id: "V",
    kind: "video",
    timestamp: at,
    bytesReceived: bytes,
    packetsLost: 2,
    codecId: "C",
    jitterBufferDelay: waited,
    jitterBufferEmittedCount: played,
    framesDecoded: played,
    framesDropped: 1,
    frameWidth: 1280,
    frameHeight: 720,
  },
];

test("the delay is the buffer's of late and half the round trip", () => {
  const first = received(watching(1000, 0, 5, 50), null);
  expect(first.figures.bitrate).toBeNull();
  expect(first.figures.delay).toBeCloseTo(0.12);
  const { figures } = received(watching(2000, 250_000, 6.5, 80), first.sample);
  expect(figures.delay).toBeCloseTo(0.05 + 0.02);
  expect(figures.bitrate).toBeCloseTo(2_200_000);
  expect(figures).toMatchObject({ lost: 3, decoded: 80, dropped: 1, width: 1280, height: 720, codec: "H264", rtt: 0.04 });
});

test("without new frames there is no delay, and a restarted counter gives no bitrate", () => {
  const first = received(watching(1000, 5000, 5, 50), null);
  expect(received(watching(2000, 5000, 5, 50), first.sample).figures.delay).toBeNull();
  expect(received(watching(2000, 0, 0, 0), first.sample).figures).toMatchObject({ bitrate: null, delay: null });
});

test("an empty report is no figures", () => {
  expect(received([], null).figures).toEqual({
    bitrate: null, delay: null, rtt: null, lost: 0, decoded: null, dropped: null, width: 0, height: 0, codec: null,
  });
  expect(sent([], null).figures).toEqual({ bitrate: null, rtt: null, lost: null, layers: [], codec: null, limited: null });
});

const sending = (at: number, bytes: number, reason: string): Entry[] => [
  ...path,
  { type: "codec", id: "C", mimeType: "video/VP8" },
  { type: "outbound-rtp", id: "q", kind: "video", timestamp: at, bytesSent: bytes, codecId: "C", frameWidth: 320, frameHeight: 180, framesPerSecond: 30, qualityLimitationReason: "none" },
  { type: "outbound-rtp", id: "h", kind: "video", timestamp: at, bytesSent: bytes, codecId: "C", frameWidth: 640, frameHeight: 360, framesPerSecond: 29, qualityLimitationReason: reason },
  { type: "outbound-rtp", id: "f", kind: "video", timestamp: at, bytesSent: 0, active: false, frameWidth: 1280, frameHeight: 720, framesPerSecond: 0 },
  { type: "remote-inbound-rtp", id: "r", kind: "video", fractionLost: 0.25 },
];

test("what is sent: layers that run, the largest first, and what holds them down", () => {
  const first = sent(sending(1000, 0, "none"), null);
  expect(first.figures.limited).toBeNull();
  const { figures } = sent(sending(2000, 100_000, "bandwidth"), first.sample);
  expect(figures).toEqual({
    bitrate: 1_600_000,
    rtt: 0.04,
    lost: 0.25,
    layers: [
      { height: 360, width: 640, fps: 29 },
      { height: 180, width: 320, fps: 30 },
    ],
    codec: "VP8",
    limited: "bandwidth",
  });
});

test("without a transport entry the nominated pair counts", () => {
  const entries = path.slice(1, 2);
  expect(sent(entries, null).figures.rtt).toBe(9);
});
