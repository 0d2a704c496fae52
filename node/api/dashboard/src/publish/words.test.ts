import { expect, test } from "vitest";
import { captureProblem, deviceProblem, limitation } from "./words";

const thrown = (name: string): Error => Object.assign(new Error("x"), { name });

test.each([
  ["NotAllowedError", "camera", "allowed to use camera"],
  ["NotAllowedError", "screen", "share the screen"],
  ["NotFoundError", "camera", "Connect one"],
  ["NotReadableError", "camera", "Another program"],
  ["OverconstrainedError", "camera", "no longer there"],
  ["TypeError", "camera", "(TypeError)"],
] as const)("%s of the %s says what to do", (name, what, text) => expect(deviceProblem(thrown(name), what)).toContain(text));

test("anything thrown makes a sentence", () => {
  for (const odd of [undefined, null, 1, "x", {}]) expect(deviceProblem(odd, "camera")).toContain("no picture");
});

test("an insecure page says where to go", () => {
  expect(captureProblem(true, true, "")).toBe("");
  expect(captureProblem(false, false, "http://node.example:5080/live/publish.html")).toContain("https://node.example/");
  expect(captureProblem(false, false, "nonsense")).toContain("localhost");
  expect(captureProblem(true, false, "https://x/")).toContain("cannot capture");
});

test("what holds the quality down has a name", () => {
  expect(limitation(null)).toBe("Nothing");
  expect(limitation("bandwidth")).toContain("connection");
  expect(limitation("new-reason")).toBe("new-reason");
});
