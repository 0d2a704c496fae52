import { useEffect, useState } from "preact/hooks";
import { applications, liveStreams, systemResources, token } from "./api";
import { clockOffset } from "./clock";
import { ClusterPage } from "./cluster_page";
import { duration } from "./format";
import { NodePanel, useReadings } from "./node_panel";
import { usePoll } from "./poll";
import { parseRoute, type Route } from "./route";
import { SignIn } from "./sign_in";
import { StreamPage } from "./stream_page";
import { StreamsPage } from "./streams_page";
import type { SystemResources } from "./types";

const STREAMS_EVERY_MS = 2000;
const NODE_EVERY_MS = 2000;
const APPS_EVERY_MS = 30_000;

function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const onChange = (): void => {
      setRoute(parseRoute(location.hash));
      scrollTo(0, 0);
    };
    addEventListener("hashchange", onChange);
    return () => removeEventListener("hashchange", onChange);
  }, []);
  return route;
}

/** The frame of all pages: polls the node, and shows what stands between the reader and the node's data. */
export function App() {
  const route = useRoute();
  const [askedToSignIn, setAskedToSignIn] = useState("");
  const signedIn = askedToSignIn === "";
  const node = usePoll(systemResources, NODE_EVERY_MS, signedIn);
  const streams = usePoll(liveStreams, STREAMS_EVERY_MS, signedIn);
  const apps = usePoll(applications, APPS_EVERY_MS, signedIn);
  const readings = useReadings(node.data, node.readAt);

  const problem = streams.error ?? node.error;
  useEffect(() => {
    if (problem?.failure === "auth") setAskedToSignIn(problem.message);
  }, [problem]);

  useEffect(() => {
    document.title = route.page === "stream" ? `${route.key.id} – Sluice` : route.page === "cluster" ? "Cluster – Sluice" : "Sluice";
  }, [route]);

  const rtmpPort = node.data?.["rtmp-port"];
  const now = Math.max(node.readAt, streams.readAt) + clockOffset(node.data, node.readAt);
  const signOut = (): void => {
    token.set("");
    location.reload();
  };

  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), document.getElementById("content")?.focus())}>
        Skip to the content
      </a>
      <header>
        <a class="brand" href="#/" aria-label="Sluice, live streams">
          <img src="/favicon.svg" alt="" width="26" height="26" />
          Sluice
        </a>
        <nav aria-label="Pages">
          <a href="#/" aria-current={route.page === "streams" ? "page" : undefined}>
            Streams
          </a>
          <a href="#/cluster" aria-current={route.page === "cluster" ? "page" : undefined}>
            Cluster
          </a>
        </nav>
        <span class="spacer" />
        <NodeState resources={node.data} answering={problem === null || problem.failure !== "unreachable"} />
        {token.get() !== "" && signedIn && (
          <button type="button" class="quiet" onClick={signOut}>
            Sign out
          </button>
        )}
      </header>
      <main id="content" tabIndex={-1}>
        {!signedIn ? (
          <SignIn reason={askedToSignIn} onSignedIn={() => setAskedToSignIn("")} />
        ) : (
          <>
            {problem !== null && problem.failure !== "auth" && (
              <div class="banner" role="alert">
                <strong>{problem.message}</strong>{" "}
                {streams.data === null ? "Trying again every two seconds." : "What you see is from before; trying again every two seconds."}
              </div>
            )}
            {route.page === "streams" && (
              <>
                <NodePanel resources={node.data} streams={streams.data} readings={readings} />
                <StreamsPage
                  streams={streams.data}
                  failed={streams.error !== null}
                  apps={apps.data?.map(({ name }) => name) ?? []}
                  rtmpPort={rtmpPort}
                  now={now}
                  here={node.data?.instanceId}
                  refresh={streams.refresh}
                />
              </>
            )}
            {route.page === "cluster" && <ClusterPage offset={clockOffset(node.data, node.readAt)} />}
            {route.page === "stream" && (
              <StreamPage
                key={`${route.key.app}/${route.key.id}`}
                stream={route.key}
                live={streams.data}
                rtmpPort={rtmpPort}
                now={now}
                refresh={streams.refresh}
              />
            )}
            {route.page === "unknown" && (
              <section class="card">
                <h1>There is no page {route.path}</h1>
                <p>
                  <a href="#/">See the live streams</a>
                </p>
              </section>
            )}
          </>
        )}
      </main>
    </>
  );
}

function NodeState({ resources, answering }: { resources: SystemResources | null; answering: boolean }) {
  if (resources === null) return null;
  const software = resources.softwareVersion;
  const version = typeof software === "string" ? software : software?.versionName;
  const up = resources["server-timing"]?.["up-time"];
  const where = resources["host-address"] || location.host;
  return (
    <span class={answering ? "node-state" : "node-state away"}>
      <span class="node-dot" aria-hidden="true" />
      <span class="node-where">{where}</span>
      {!answering ? (
        <span>does not answer</span>
      ) : (
        <span class="node-more">
          {version ? `v${version.replace(/^v/, "")}` : ""}
          {up === undefined ? "" : ` · up ${duration(up)}`}
        </span>
      )}
    </span>
  );
}
