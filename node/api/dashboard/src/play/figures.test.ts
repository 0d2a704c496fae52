import { expect, test } from "vitest";
import type { Stats } from "../player/player";
import { figuresOf } from "./figures";

const stats = (more: Partial<Stats>): Stats => ({
  way: "hls", latency: 0.61, target: 0.6, buffered: 0.4, decoded: 1200, dropped: 3, stalls: 1, rate: 1,
  width: 1280, height: 720, bitrate: null, lost: null, codec: null, ...more,
});

test("HLS tells how far behind the playlist's end it is", () => {
  expect(Object.fromEntries(figuresOf(stats({})))).toEqual({
    "Behind live": "0.61 s", Buffered: "0.40 s", "Frames shown": "1,197", "Frames dropped": "3", Stalls: "1",
  });
});

test("WebRTC tells its delay and what it is made of", () => {
  const figures = Object.fromEntries(figuresOf(stats({ way: "webrtc", latency: 0.08, bitrate: 2_100_000, lost: 7, codec: "H264" })));
  expect(figures).toMatchObject({ Bitrate: "2.10 Mbit/s", "Delay (buffer + ½ round trip)": "0.08 s", Picture: "720p H.264", "Packets lost": "7" });
});

test("before anything is known there are dashes", () => {
  expect(figuresOf(null).every(([, value]) => value === "–")).toBe(true);
});
