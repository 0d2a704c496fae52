// Does the dashboard's page of the cluster show its nodes and streams, and can a node be drained there?
//
//   node cluster.mjs [--base http://127.0.0.1:5080] [--nodes 5] [--links 1] [--shots DIR]
//   node cluster.mjs --fake dist|http://127.0.0.1:5080 [--shots DIR]
//
// The first asks a running cluster: at least so many nodes must be alive and so many relays run. It drains one node for
// a moment. The second needs no cluster, only the pages: built ones (npm run build in node/api/dashboard), or those of any
// running node. It looks at more: a large cluster, a phone, the dark, a database that is away, a node that stands alone.
// Prints one line for each check and a summary; exit code 1 when a check failed.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { cluster, serve } from "./fake_cluster.mjs";
import { browser, options } from "./lib.mjs";

const given = options({ nodes: "1", links: "0", shots: "", fake: "" });
let passed = 0;
let failed = 0;

function check(what, good, detail = "") {
  good ? passed++ : failed++;
  console.log(`${good ? "ok  " : "FAIL"} ${what}${detail === "" ? "" : `: ${detail}`}`);
}

async function shot(tab, name) {
  if (given.shots === "") return;
  mkdirSync(given.shots, { recursive: true });
  await tab.screenshot({ path: join(given.shots, `${name}.png`), fullPage: true });
}

const chrome = await browser(given);
const problems = [];

async function open(base, { width = 1280, height = 900, dark = false } = {}) {
  const tab = await chrome.newPage({ viewport: { width, height }, colorScheme: dark ? "dark" : "light" });
  tab.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  tab.on("console", (message) => message.type() === "error" && problems.push(`${message.text()} (${message.location().url})`));
  await tab.goto(`${base}/#/cluster`);
  return tab;
}

const row = (tab, id) => tab.locator(`tr[data-node="${id}"]`);
const stateOf = async (tab, id) => (await row(tab, id).locator('td[data-label="State"] .badge').textContent()).trim();

/** The page's own word for a node, waited for. */
async function becomes(tab, id, word) {
  const badge = row(tab, id).locator('td[data-label="State"] .badge', { hasText: word });
  return badge.waitFor({ timeout: 10_000 }).then(() => true, () => false);
}

async function press(tab, id, button, yes) {
  await row(tab, id).getByRole("button", { name: `${button} ${id}` }).click();
  await tab.locator("dialog").getByRole("button", { name: yes }).click();
}

/** What every cluster must show. */
async function look(tab, { nodes, links }) {
  await tab.locator("tr[data-node]").first().waitFor({ timeout: 10_000 });
  await tab.waitForFunction((n) => document.querySelectorAll(".map-head").length >= n, nodes, { timeout: 10_000 }).catch(() => undefined);
  const ids = await tab.locator("tr[data-node]").evaluateAll((rows) => rows.map((one) => one.dataset.node));
  const alive = [];
  for (const id of ids) if ((await stateOf(tab, id)) !== "Dead") alive.push(id);
  check("the nodes are listed", alive.length >= nodes, alive.join(", "));
  const boxes = await tab.locator(".map-head").count();
  check("the map has a box for each", boxes >= alive.length, `${boxes} boxes`);
  await tab.waitForFunction((n) => document.querySelectorAll(".map-line").length >= n, links, { timeout: 10_000 }).catch(() => undefined);
  const lines = await tab.locator(".map-line").count();
  check("the map has the relays", lines >= links, `${lines} lines`);
  const apart = await tab.locator(".map-card").evaluateAll((cards) => {
    const all = cards.map((card) => card.getBoundingClientRect());
    const touch = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return all.every((a, i) => all.every((b, j) => i === j || !touch(a, b)));
  });
  check("no box lies on another", apart);
  return alive;
}

/** Drains a node and takes it back. */
async function drain(tab, id) {
  await press(tab, id, "Drain", "Drain it");
  check(`draining ${id} shows`, await becomes(tab, id, "Draining"));
  await shot(tab, "cluster-draining");
  await press(tab, id, "Undrain", "Undrain it");
  check(`undraining ${id} shows`, await becomes(tab, id, "Alive"));
}

async function fits(tab, what) {
  const { wide, page } = await tab.evaluate(() => ({ wide: document.documentElement.scrollWidth, page: innerWidth }));
  check(`${what}: nothing is wider than the page`, wide <= page, `${wide} of ${page}`);
}

async function checkRunning(base) {
  const tab = await open(base);
  const alive = await look(tab, { nodes: Number(given.nodes), links: Number(given.links) });
  await shot(tab, "cluster");
  const stream = tab.locator(".map-stream").first();
  if (Number(given.links) > 0 && (await stream.count()) > 0) {
    await stream.click();
    check("a picked stream tells where it goes", await tab.locator(".details h3").isVisible());
    await shot(tab, "cluster-stream");
    await stream.click();
  }
  await drain(tab, alive.at(-1));
}

async function checkFake() {
  const state = cluster();
  const node = await serve(state, given.fake);
  const tab = await open(node.base);
  await look(tab, { nodes: 5, links: 5 });
  check("the dead node is listed as dead", (await stateOf(tab, "edge-old")) === "Dead");
  await shot(tab, "cluster");
  await tab.locator(".map-head").nth(2).click();
  check("a picked node lights its lines only", (await tab.locator(".map-line.lit").count()) > 0 && (await tab.locator(".map-line.dim").count()) > 0);
  await shot(tab, "cluster-node");
  await tab.getByLabel("Find a stream on the map").fill("cam2-5");
  await tab.locator(".found button").first().click();
  check("a found stream is picked", (await tab.locator(".details h3").textContent()) === "LiveApp/cam2-5");
  const ways = await tab.locator(".ways li").allTextContents();
  check("it tells the ways", ways.some((way) => /^origin-2 → edge-\d/.test(way)), ways.join(" | "));
  await shot(tab, "cluster-stream");
  await drain(tab, "edge-2");
  await press(tab, "edge-old", "Remove", "Remove it");
  const gone = await row(tab, "edge-old").waitFor({ state: "detached", timeout: 10_000 }).then(() => true, () => false);
  check("a dead node can be removed", gone);
  state.away = true;
  const banner = await tab.locator(".banner", { hasText: "The database has not answered for" }).waitFor({ timeout: 10_000 }).then(() => true, () => false);
  check("a database that is away is told", banner);
  await shot(tab, "cluster-away");
  state.alone = true;
  await tab.getByText("This node stands alone").waitFor({ timeout: 10_000 });
  check("a node alone says how to change that", (await tab.getByText("sluice-node mode cluster").count()) > 0);
  await shot(tab, "cluster-alone");
  await tab.close();
  node.close();

  const fresh = await serve(cluster(), given.fake);
  const dark = await open(fresh.base, { dark: true });
  await look(dark, { nodes: 5, links: 5 });
  await shot(dark, "cluster-dark");
  const phone = await open(fresh.base, { width: 390, height: 800 });
  await look(phone, { nodes: 5, links: 5 });
  await fits(phone, "phone");
  await shot(phone, "cluster-phone");
  await dark.close();
  await phone.close();
  fresh.close();

  const large = await serve(cluster({ origins: 8, edges: 12, streams: 60 }), given.fake);
  const big = await open(large.base, { width: 1440 });
  await look(big, { nodes: 20, links: 89 });
  await fits(big, "20 nodes");
  await shot(big, "cluster-large");
  await big.locator(".map-head").nth(10).click();
  await shot(big, "cluster-large-node");
  await big.close();
  large.close();
}

try {
  await (given.fake === "" ? checkRunning(given.base) : checkFake());
  check("no errors in the browser's console", problems.length === 0, problems.slice(0, 5).join(" | "));
} catch (error) {
  check("the script ran through", false, error.message);
} finally {
  await chrome.close();
}
console.log(`browser cluster: ${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
