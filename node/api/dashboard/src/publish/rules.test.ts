import { expect, test } from "vitest";
import { afterWhip, backOff } from "./rules";

test("a lost connection comes back several times while the node keeps the stream", () => {
  let [passed, attempts] = [0, 0];
  while (passed + backOff(attempts, 1) < 10_000) passed += backOff(attempts++, 1);
  expect(attempts).toBeGreaterThanOrEqual(4);
  expect(backOff(0, 0)).toBeLessThan(500);
  expect(backOff(1000, 0.5)).toBe(5000);
});

test("an id in use stops the first attempt, and is waited for after a lost session", () => {
  const taken = { kind: "taken", reason: "Somebody publishes." } as const;
  expect(afterWhip(taken, 0, false, 0.5)).toEqual({ kind: "stop", reason: "Somebody publishes. Choose another id, or wait until it is free." });
  expect(afterWhip(taken, 0, true, 0.5)).toMatchObject({ kind: "again" });
  expect(afterWhip(taken, 8, true, 0.5)).toMatchObject({ kind: "stop" });
});

test("a draining node is asked again when it said, not sooner", () => {
  expect(afterWhip({ kind: "busy", reason: "It drains.", after: 7000 }, 0, false, 0.5)).toEqual({ kind: "again", reason: "It drains.", after: 7000 });
  expect(afterWhip({ kind: "busy", reason: "It drains.", after: 500 }, 20, false, 0.5)).toMatchObject({ after: 5000 });
});

test("what will not get better stops", () => {
  expect(afterWhip({ kind: "forbidden", reason: "No." }, 0, true, 0)).toEqual({ kind: "stop", reason: "No." });
  expect(afterWhip({ kind: "unfit", reason: "No codec." }, 0, false, 0)).toMatchObject({ kind: "stop" });
  expect(afterWhip({ kind: "absent" }, 0, false, 0)).toMatchObject({ kind: "stop" });
});

test("a way that was never open is tried three times", () => {
  const end = { kind: "unconnected", reason: "x." } as const;
  expect([0, 1, 2].map((attempt) => afterWhip(end, attempt, false, 0).kind)).toEqual(["again", "again", "stop"]);
  expect(afterWhip(end, 50, true, 0).kind).toBe("again");
});

test("an unreachable server and a session that the server ended are tried again", () => {
  expect(afterWhip({ kind: "unreachable", reason: "?" }, 99, false, 0).kind).toBe("again");
  expect(afterWhip({ kind: "closed" }, 0, true, 0).kind).toBe("again");
});
