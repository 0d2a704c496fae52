#!/bin/bash
# Runs every fuzz target over its corpus, then over mutations of it, without coverage: fuzz.sh [SECONDS a target]
# `make fuzz` (fuzz/run) searches with libFuzzer.
. "$(dirname "$0")/lib.sh"
exec cargo run --quiet --profile ci --manifest-path fuzz/Cargo.toml --target-dir target -- "${1:-2}"
