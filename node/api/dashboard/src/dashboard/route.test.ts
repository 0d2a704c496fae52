import { expect, test } from "vitest";
import { parseRoute, streamRoute } from "./route";

test("the list is the page of no address", () => {
  for (const hash of ["", "#", "#/", "#/streams", "#/?x=1"]) expect(parseRoute(hash)).toEqual({ page: "streams" });
});

test("a stream's address leads back to it", () => {
  for (const key of [
    { app: "LiveApp", id: "cam1" },
    { app: "a_b-c", id: "room/cam.1" },
  ]) {
    expect(parseRoute(streamRoute(key))).toEqual({ page: "stream", key });
  }
});

test("the cluster has a page", () => {
  for (const hash of ["#/cluster", "#/cluster/"]) expect(parseRoute(hash)).toEqual({ page: "cluster" });
});

test("anything else is unknown, broken escapes too", () => {
  for (const hash of ["#/cluster/n1", "#/streams/a", "#/streams/a/b/c", "#/streams/a/%E0%A4%A", "#/streams/a/..", "#/streams/<x>/y"]) {
    expect(parseRoute(hash).page).toBe("unknown");
  }
});
