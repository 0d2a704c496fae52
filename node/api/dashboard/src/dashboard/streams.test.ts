import { expect, test } from "vitest";
import { arrange, title, viewersInWords } from "./streams";
import type { LiveStream } from "./types";

const stream = (streamId: string, more: Partial<LiveStream> = {}): LiveStream => ({
  app: "live",
  streamId,
  name: null,
  status: "broadcasting",
  publishType: "RTMP",
  startTime: 0,
  bitrate: 0,
  videoCodec: "h264",
  audioCodec: "aac",
  width: 0,
  height: 0,
  frameRate: 0,
  hlsViewerCount: 0,
  rtmpViewerCount: 0,
  webRTCViewerCount: 0,
  remoteIp: null,
  userAgent: null,
  packetsSkipped: 0,
  interrupted: false,
  ...more,
});

const ids = (streams: LiveStream[]): string[] => streams.map(({ streamId }) => streamId);

test("names are ordered as people count", () => {
  const streams = [stream("cam10"), stream("cam2"), stream("x", { name: "Camera" })];
  expect(ids(arrange(streams, "", "name"))).toEqual(["cam2", "cam10", "x"]);
});

test("the busiest, largest and oldest come first", () => {
  const streams = [
    stream("a", { bitrate: 1, hlsViewerCount: 1, startTime: 30 }),
    stream("b", { bitrate: 3, rtmpViewerCount: 1, webRTCViewerCount: 1, startTime: 20 }),
    stream("c", { bitrate: 3, startTime: 10 }),
  ];
  expect(ids(arrange(streams, "", "bitrate"))).toEqual(["b", "c", "a"]);
  expect(ids(arrange(streams, "", "viewers"))).toEqual(["b", "a", "c"]);
  expect(ids(arrange(streams, "", "uptime"))).toEqual(["c", "b", "a"]);
  expect(ids(streams)).toEqual(["a", "b", "c"]);
});

test("finds by id, name or application, whatever the case", () => {
  const streams = [stream("cam1"), stream("x", { name: "Main stage" }), stream("y", { app: "WebRTCAppEE" })];
  expect(ids(arrange(streams, " STAGE ", "name"))).toEqual(["x"]);
  expect(ids(arrange(streams, "webrtc", "name"))).toEqual(["y"]);
  expect(ids(arrange(streams, "none", "name"))).toEqual([]);
});

test("says who watches", () => {
  expect(viewersInWords(stream("a"))).toBe("nobody watches");
  expect(viewersInWords(stream("a", { hlsViewerCount: 1200, rtmpViewerCount: 2 }))).toBe("1,200 HLS, 2 RTMP");
  expect(title(stream("a", { name: " " }))).toBe("a");
});
