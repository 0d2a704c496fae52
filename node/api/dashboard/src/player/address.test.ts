import { expect, test } from "vitest";
import { isStreamId, readWatchRequest, rtmpAddress, watchPage } from "./address";

test("the watch page is addressed as AMS's is", () => {
  expect(readWatchRequest("/LiveApp/play.html", "?id=cam1&autoplay=true&playOrder=webrtc,hls")).toEqual({
    key: { app: "LiveApp", id: "cam1" },
    problem: "",
    autoplay: true,
    muted: false,
    debug: false,
    query: "",
  });
  expect(readWatchRequest("/live/play.html", "?name=a.b_c-1&autoplay=false&mute=true")).toMatchObject({
    key: { app: "live", id: "a.b_c-1" },
    autoplay: false,
    muted: true,
  });
});

test("tokens are passed on to the playlists, escaped, and nothing else is", () => {
  const { query } = readWatchRequest("/live/play.html", "?id=x&token=a%26b&subscriberId=me&evil=1");
  expect(query).toBe("?token=a%26b&subscriberId=me");
});

test("an address without a usable stream says what is missing", () => {
  expect(readWatchRequest("/live/play.html", "").problem).toContain("?id=");
  for (const id of ["..", "a/../b", "/a", "a b", "%3Cscript%3E", "a?b"]) {
    const { key, problem } = readWatchRequest("/live/play.html", `?id=${id}`);
    expect([key, problem]).toEqual([null, "The stream id in the address of this page is not valid."]);
  }
});

test("ids may lie in a sub folder", () => {
  expect(isStreamId("room/cam.1")).toBe(true);
  expect(watchPage({ app: "live", id: "room/cam.1" })).toBe("/live/play.html?id=room%2Fcam.1");
});

test("RTMP addresses leave the default port out", () => {
  const key = { app: "live", id: "x" };
  expect(rtmpAddress(key, "[::1]")).toBe("rtmp://[::1]/live/x");
  expect(rtmpAddress(key, "host", 1936)).toBe("rtmp://host:1936/live/x");
});
