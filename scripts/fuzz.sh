#!/bin/bash
# Runs every fuzz target over its corpus, then over mutations of it, without coverage: fuzz.sh [SECONDS a target] [options
# of fuzz/src/bin/drive.rs]. With a seed and --execs the inputs are the same on every machine.
# `make fuzz` (fuzz/run) searches with libFuzzer.
. "$(dirname "$0")/lib.sh"
exec cargo run --quiet --profile ci --manifest-path fuzz/Cargo.toml --target-dir target -- "$@"
