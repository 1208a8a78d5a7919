#!/usr/bin/env bash
# Runs every fuzz target of the tree for a while: scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
time=${1:-30s}
failed=0
while IFS=: read -r file target; do
	printf 'fuzz: %s %s\n' "$(dirname "$file")" "$target"
	go test "./$(dirname "$file")" -run '^$' -fuzz "^${target}\$" -fuzztime "$time" || failed=1
done < <(grep -rhoHE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed -E 's/^\.\///; s/:func /:/')
exit "$failed"
