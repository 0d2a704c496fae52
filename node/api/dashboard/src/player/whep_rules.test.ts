import { expect, test } from "vitest";
import { afterWhep, type Tried } from "./whep_rules";

const fresh = (more: Partial<Tried> = {}): Tried => ({ connected: false, failures: 0, absences: 0, ...more });

test("a codec that the browser lacks means HLS, with the server's sentence", () => {
  expect(afterWhep({ kind: "unfit", reason: "This stream has HEVC." }, fresh(), false)).toEqual({
    kind: "fallback",
    reason: "This stream has HEVC. Playing HLS instead, with a longer delay.",
  });
});

test("no connection at the first attempt means HLS", () => {
  expect(afterWhep({ kind: "unconnected", reason: "x." }, fresh(), false).kind).toBe("fallback");
});

test("after a session that worked it tries three times", () => {
  const tried = fresh({ connected: true });
  const kinds = [1, 2, 3].map(() => afterWhep({ kind: "unconnected", reason: "x." }, tried, false).kind);
  expect(kinds).toEqual(["again", "again", "fallback"]);
});

test("another outcome in between begins the count anew", () => {
  const tried = fresh({ connected: true, failures: 2, absences: 2 });
  afterWhep({ kind: "broken", reason: "x." }, tried, false);
  expect(tried).toEqual({ connected: true, failures: 0, absences: 0 });
});

test("nobody publishes: it waits, unless HLS has it", () => {
  const tried = fresh();
  expect(afterWhep({ kind: "absent" }, tried, false)).toMatchObject({ kind: "again", wait: "absent" });
  expect(tried.absences).toBe(1);
  expect(afterWhep({ kind: "absent" }, tried, true)).toMatchObject({ kind: "fallback" });
});

test("a draining server is asked again when it said", () => {
  expect(afterWhep({ kind: "busy", reason: "It drains.", after: 7000 }, fresh(), false)).toEqual({
    kind: "again",
    wait: "unreachable",
    after: 7000,
    phase: { name: "reconnecting", reason: "It drains." },
  });
});

test("refusals and lost connections say so and go on", () => {
  expect(afterWhep({ kind: "forbidden", reason: "No." }, fresh(), false)).toMatchObject({ wait: "refused", phase: { name: "refused" } });
  expect(afterWhep({ kind: "unreachable", reason: "?" }, fresh(), false)).toMatchObject({ wait: "unreachable" });
  expect(afterWhep({ kind: "closed" }, fresh(), false)).toMatchObject({ wait: "found", phase: null });
});
