#!/bin/bash
# Runs every fuzz target over its corpus, then on new input for so many seconds each: fuzz.sh SECONDS [TARGET]
. "$(dirname "$0")/lib.sh"
exec cargo run --quiet --profile ci --manifest-path fuzz/Cargo.toml --target-dir target -- "${1:-60}" ${2:+--target "$2"}
