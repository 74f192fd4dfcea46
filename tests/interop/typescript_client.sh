#!/usr/bin/env bash
# Proves that an issuer gets by with a client generated from the description that the running service gives: examples/typescript, with
# its own commands, type-checked by its own settings, then run. Control: with another key it ends with the service's code.
#
# Environment: BASE_URL, POOL, API_KEY; TOOLS from tests/interop/run.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r "$(dirname "${BASH_SOURCE[0]}")/../../examples/typescript/." "$folder"
cd "$folder"
rm -rf node_modules build api.d.ts
ln -s "$TOOLS/node/node_modules" node_modules
export STATUSLIST_URL=$BASE_URL STATUSLIST_POOL=$POOL

# What `npm run` does with a script.
script() { PATH=$PWD/node_modules/.bin:$PATH sh -c "$(node -p "require('./package.json').scripts.$1")" >&2; }

script generate
script build
STATUSLIST_API_KEY=$API_KEY script start 2>&1
if refused=$(STATUSLIST_API_KEY=another script start 2>&1); then
  echo "the control: another key was accepted" >&2 && exit 1
fi
[[ $refused == *"401 UNAUTHORIZED"* ]] || { echo "the control: $refused" >&2 && exit 1; }
