#!/usr/bin/env bash
# Proves that an issuer gets by with a client generated from the description that the running service gives: examples/python, with the
# commands of its README. Control: with another key it ends with the service's code.
#
# Environment: BASE_URL, POOL, API_KEY; TOOLS from tests/interop/run.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r "$(dirname "${BASH_SOURCE[0]}")/../../examples/python/." "$folder"
cd "$folder"
rm -rf venv statuslist_client
# Has what requirements.txt names, in the versions named there (tests/it/interop.rs).
ln -s "$TOOLS/venv" venv
export STATUSLIST_URL=$BASE_URL STATUSLIST_POOL=$POOL

# The command of the README with these words, and with a key in place of the dots.
printed() { sed -n '/^```sh$/,/^```$/p' README.md | grep -F "$1" | sed 's/…/"$API_KEY"/'; }

eval "$(printed "openapi-python-client generate")" >&2
eval "$(printed issuer.py)"
if refused=$(API_KEY=another && eval "$(printed issuer.py)" 2>&1); then
  echo "the control: another key was accepted" >&2 && exit 1
fi
[[ $refused == *"401 UNAUTHORIZED"* ]] || { echo "the control: $refused" >&2 && exit 1; }
