#!/bin/bash
# The real Kubernetes on this machine (root): kubernetes.sh up|down|status|node2|kwok N|gpu N|crds NAME|images|demo|kubectl ...
# `make cluster` is `demo`: all of it, with the operator and a sample cluster. e2e/kubernetes says what it is made of.
case ${1:-help} in
  up | node2 | kwok | gpu | images | demo | scale) "$(dirname "$0")/setup.sh" kubernetes ;;
esac
. "$(dirname "$0")/lib.sh"

export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$ROOT/e2e
exec python3 -m kubernetes "${@:---help}"
