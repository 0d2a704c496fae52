import { expect, test } from "vitest";
import { iceServers } from "./link";

test("reads STUN and TURN servers, quoted commas and semicolons included", () => {
  const header =
    '<stun:stun.example.net>; rel="ice-server", ' +
    '<turn:turn.example.net?transport=udp>; rel="ice-server"; username="a,b;c"; credential="x\\"y"; credential-type="password", ' +
    '<turns:turn.example.net:5349?transport=tcp>;rel=ice-server;username=u;credential=p';
  expect(iceServers(header)).toEqual([
    { urls: "stun:stun.example.net" },
    { urls: "turn:turn.example.net?transport=udp", username: "a,b;c", credential: 'x"y' },
    { urls: "turns:turn.example.net:5349?transport=tcp", username: "u", credential: "p" },
  ]);
});

test("leaves out what is no ICE server and what a browser would throw on", () => {
  expect(iceServers(null)).toEqual([]);
  expect(iceServers("")).toEqual([]);
  expect(iceServers('<https://example.net/>; rel="ice-server", <stun:a>; rel="next", <turn:b>; rel="ice-server", stun:c; rel="ice-server"')).toEqual([]);
  expect(iceServers('<stun:a>; rel="alternate ice-server"; rel="next"')).toEqual([{ urls: "stun:a" }]);
});

test("a broken header does no harm", () => {
  for (const header of ["<", '<stun:a>; rel="ice-server', "<<>>;;;===,,,", `${"<stun:a>;rel=ice-server,".repeat(1000)}`]) {
    expect(iceServers(header).length).toBeLessThanOrEqual(16);
  }
});
