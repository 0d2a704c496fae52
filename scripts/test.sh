#!/bin/bash
# All tests. Each step says what it does; a failed step does not stop the others; the last line sums up.
"$(dirname "$0")/setup.sh" test
"$(dirname "$0")/setup.sh" kubernetes
. "$(dirname "$0")/lib.sh"

PASSED=0 FAILED=0 BROKEN=()
export RUST_BACKTRACE=0 CARGO_TERM_COLOR=never NO_COLOR=1 CI=1
LOG=$(mktemp)
trap 'rm -f "$LOG"; scripts/kubernetes.sh down >/dev/null 2>&1' EXIT

# step NAME COMMAND...: counts the tests that the command reports, or itself as one
step() {
  local name=$1 start=$SECONDS status=0 passed failed; shift
  say "$name"
  "$@" 2>&1 | tee "$LOG" || status=$?
  # cargo's "test result: ok. 5 passed; 0 failed", vitest's "Tests  5 passed", and "NAME: 5 passed, 0 failed" of ours
  read -r passed failed < <(awk '
    /^ *(test result:|Tests )|(^|: )[0-9]+ passed, [0-9]+ failed/ {
      for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^failed/) f += $(i - 1) }
    }
    END { print p + 0, f + 0 }' "$LOG")
  if ((passed + failed == 0)); then
    if ((status == 0)); then passed=1; else failed=1; fi
  elif ((status != 0 && failed == 0)); then
    failed=1
  fi
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
  if ((status != 0)); then BROKEN+=("$name"); fi
  say "$name: $passed passed, $failed failed, $((SECONDS - start)) s"
}

step "format" cargo fmt --all --check
# The check looks at every crate of the lock file, also at those that other platforms would need.
cargo fetch --quiet || say "not all crates could be fetched"
step "licences, bans, sources" cargo-deny --offline --log-level error check --hide-inclusion-graph licenses bans sources
step "lints" cargo clippy --quiet --profile ci --workspace --all-targets -- -D warnings
step "build" cargo build --quiet --profile ci --workspace --bins
step "unit and integration tests" cargo test --quiet --profile ci --workspace --no-fail-fast
step "web pages" npm test --silent --prefix node/api/dashboard
step "fuzz, 100,000 inputs a target" scripts/fuzz.sh 60 --execs 100000
step "browser" scripts/e2e.sh
export SLUICE_NODE_BINARY=target/ci/sluice-node SLUICE_LOAD_BINARY=target/ci/sluice-load
# What measures (latency, impaired) is in `make test-scale`.
step "WebRTC across a cluster, in a browser" scripts/webrtc.sh adaptor pages
step "load balancers" scripts/cluster.sh lb --mode mongodb
step "a cluster behind nginx, without a database" scripts/cluster.sh local --check --mode static
# The whole of `kubernetes.sh check` is in `make test-scale`.
export SLUICE_PROFILE=ci
step "Kubernetes: the operator and a sample cluster" scripts/kubernetes.sh demo
step "Kubernetes: checks" scripts/kubernetes.sh check manifests specs plays gitops autoscale drains plugin heals orphans key

for name in "${BROKEN[@]}"; do echo "failed: $name"; done
echo "$PASSED passed, $FAILED failed"
((FAILED == 0 && ${#BROKEN[@]} == 0))
