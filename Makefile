# What there is to do here. Each target sets up what it needs; second runs are quick.
# Downloads and built tools go to ~/.cache/sluice, everything else to target/.

.DEFAULT_GOAL := help
.PHONY: help run build test bench fuzz test-scale latency soak webrtc docs audit format cluster-local failover chaos partition database cluster-bench days cluster cluster-down image

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

run: ## Build and start a node; ARGS="--log debug" go to sluice-node run
	@scripts/run.sh $(ARGS)

build: ## Build target/release/sluice-node and sluice-load
	@scripts/setup.sh build
	cargo build --release -p sluice-node -p sluice-load

test: ## All tests: format, lints, licences, unit, integration, web pages, fuzz (short), browser
	@scripts/test.sh

bench: ## Measure against nginx-rtmp and MediaMTX on this machine; ARGS=--quick for a short run
	@scripts/setup.sh build
	@bench/run $(ARGS)

fuzz: ## Fuzz every parser of network input; SECONDS=60 each, TARGET=name for one
	@scripts/setup.sh build
	@fuzz/run $(or $(SECONDS),60) $(TARGET)

test-scale: ## 500 publishers, garbage, LL-HLS; clusters that are killed, cut apart, without database
	@scripts/setup.sh test
	@scripts/scale.sh $(ARGS)

latency: ## Age of the frame that Chromium shows (60 s)
	@scripts/setup.sh test
	@scripts/e2e.sh latency $(ARGS)

soak: ## Ten minutes of playback in Chromium without a stall
	@scripts/setup.sh test
	@scripts/e2e.sh soak $(ARGS)

webrtc: ## WebRTC across a cluster in Chromium: Ant Media's client, pages, latency, bad links; ARGS=pages
	@scripts/setup.sh test
	@scripts/webrtc.sh $(ARGS)

cluster-local: ## A cluster on this machine until Ctrl-C; ARGS="--mode static --demo", --check tries it out
	@scripts/cluster-local.sh $(ARGS)

failover: ## kill -9 of an origin with 50 streams: how long viewers wait
	@scripts/setup.sh cluster
	@scripts/cluster.sh failover $(ARGS)

chaos: ## Kill every process of a cluster under load for 5 minutes
	@scripts/setup.sh cluster
	@scripts/cluster.sh chaos $(ARGS)

partition: ## Two origins that lose sight of each other (network namespaces, root); ARGS="--mode static"
	@scripts/setup.sh cluster
	@scripts/cluster.sh partition $(ARGS)

database: ## Take the database away from a cluster for a minute, and bring it back, also empty
	@scripts/setup.sh cluster
	@scripts/cluster.sh database $(ARGS)

cluster-bench: ## What relaying costs beside nginx-rtmp, how quickly an edge is there
	@scripts/setup.sh cluster
	@scripts/cluster.sh measure $(ARGS)

days: ## Days of load in simulation: autoscaling here beside a CPU autoscaler on a Deployment
	@scripts/setup.sh build
	cargo test --quiet --profile ci -p sluice-plan --test days -- --nocapture

cluster: ## A real Kubernetes here, with the operator and a sample cluster (root); again: rolls out what changed
	@scripts/setup.sh build
	@scripts/kubernetes.sh demo

cluster-down: ## End that Kubernetes; nothing of it is left
	@scripts/kubernetes.sh down

image: ## Build the images of node and operator with buildah, from images/Containerfile
	@scripts/setup.sh build
	@scripts/kubernetes.sh images

docs: ## Write the pages and definitions that are made from code; build the book when mdbook is there
	SLUICE_WRITE_DOCS=1 cargo test --quiet --profile ci -p sluice-node --lib the_page_is_up_to_date
	SLUICE_WRITE_CRDS=1 cargo test --quiet --profile ci -p sluice-crds --test generated
	@if command -v mdbook >/dev/null; then mdbook build docs; else echo "the book is docs/*.md; mdbook (cargo install mdbook) makes HTML of it"; fi

audit: ## Look up known vulnerabilities of dependencies (needs github.com)
	@scripts/setup.sh test
	PATH="$$HOME/.cache/sluice/tools/cargo-deny-0.20.2/bin:$$PATH" cargo-deny check advisories

format: ## Format all Rust code
	cargo fmt --all
