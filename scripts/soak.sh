#!/usr/bin/env bash
# Runs the long variants of the tests, one part after the other: scripts/soak.sh [PART...]. No part keeps those after it
# from running. What a part prints is in bin/soak/PART.log, and what processes of tests that failed said in
# bin/soak/PART.processes/; the last lines, also in bin/soak/summary.txt, tell what ran, how long it took, and what was seen.
# --list shows the parts; docs/correctness.md tells how long they take. RACE=1 builds tests and processes with the race
# detector, under which they take several times as long.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
go=${GO:-go}
root=$PWD
out=${SOAK_DIR:-$root/bin/soak}
race=()
[ -z "${RACE:-}" ] || race=(-race)

# part, package, tests of it, limit, then variables of the environment and flags of the test binary.
# rest is every other test, with the long variants of those that nobody has given a part yet.
table='
kill         ./span/local    TestKill                                     1h  BRAID_LOCAL_TEST_KILLS=100
faults       ./span/local    TestFaultAtEveryOperation                    1h
damage       ./span/local    TestFlippedBits                              2h
engine       ./span/local    TestDifferential                             1h
model        ./span/local    TestCrashModel                               2h  -rapid.checks=1000
moves        ./cmd/braid     TestLiveMovesBetweenKafkaClusters            2h
points       ./cmd/braid     TestFaultAtEachPointOfAMove                  2h
kills        ./cmd/braid     TestNothingAcknowledgedIsLostOnKill|TestMovesUnderKills|TestGroupOutlivesItsCoordinator  1h
fence        ./cmd/braid     TestMovesOffAClusterThatGrantsNoSeal         1h
failover     ./cmd/braid     TestFailoverOfRealKafka                      1h
flapping     ./cmd/braid     TestRealKafkaFlaps|TestMovesDuringAReturnOfRealKafka  1h
groupsaway   ./cmd/braid     TestGroupsWithoutTheClusterOfTheirCommits    1h
returns      ./cmd/braid     TestReturnsOfRealKafka                       1h
refused      ./cmd/braid     TestReturnOfWhatRealKafkaRefuses             1h
twoaway      ./cmd/braid     TestTwoRealKafkasAway                        1h
transactions ./cmd/braid     TestTransactionsAreWhole                     2h
etcd         ./cmd/braid     TestCatalogOnEtcdGoesAway|TestCatalogOnEtcdGoesAwayAtEachPoint  2h
secured      ./cmd/braid     TestSecuredClients                           1h
families     ./cmd/braid     TestClientFamiliesLiveThroughMoves|TestConsumerProtocolLivesThroughMovesAndKills  1h
streams      ./cmd/braid     TestKafkaStreams                             1h
connect      ./cmd/braid     TestKafkaConnect                             1h
admin        ./cmd/braid     TestAdminDifferential                        1h
franz        ./cmd/braid     TestFranzGoSuite                             6h
explorer     ./chain/explore TestSoak|TestSoakLosses                      4h  BRAID_EXPLORE=30000000
rest         ./...           -                                            4h
'

parts() { awk 'NF { print $1 }' <<<"$table"; }

if [ "${1:-}" = --list ]; then
	parts
	exit
fi
wanted=${*:-$(parts)}
for part in $wanted; do
	parts | grep -qx -- "$part" || { echo "soak: no part is called $part; there are: $(parts | tr '\n' ' ')" >&2; exit 2; }
done
mkdir -p "$out" || exit 1
: >"$out/lines.txt" && : >"$out/parts.txt" || exit 1
began=$SECONDS

# shown is a number of seconds as 1h02m03s.
shown() {
	if [ "$1" -ge 3600 ]; then printf '%dh%02dm%02ds' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}

# report tells what has run, also when it is interrupted.
report() {
	{
		echo "soak of $(git rev-parse --short HEAD 2>/dev/null || echo "an unknown commit"), $(nproc) processors${RACE:+, with the race detector}, $(date -u +%Y-%m-%d), $(shown $((SECONDS - began)))"
		cat "$out/parts.txt"
		sort "$out/lines.txt"
	} | tee "$out/summary.txt"
}

# binary builds a package's tests once for all of its parts, and prints where they are.
binary() {
	local to
	to="$out/$(tr '/' '-' <<<"${1#./}").test"
	[ -n "${built[$to]:-}" ] || "$go" test -c "${race[@]}" -o "$to" "$1" >&2 || return 1
	echo "$to"
}
declare -A built

# rest runs the tests that have no part, with vars and flags of run.
rest() {
	local limit=$1 wrong=0 package others split whole
	mapfile -t split < <(awk 'NF && $3 != "-" { print $2 }' <<<"$table" | sort -u)
	for package in "${split[@]}"; do
		others=$(awk -v p="$package" '$2 == p { print $3 }' <<<"$table" | paste -sd '|')
		env "${vars[@]}" "$go" test -v -count=1 "${race[@]}" "${flags[@]}" -timeout "$limit" -skip "^($others)\$" "$package" || wrong=1
	done
	mapfile -t whole < <("$go" list ./... | grep -vxF "$("$go" list "${split[@]}")")
	env "${vars[@]}" "$go" test -v -count=1 -p 1 "${race[@]}" "${flags[@]}" -timeout "$limit" "${whole[@]}" || wrong=1
	return "$wrong"
}

run() {
	local part=$1 package=$2 tests=$3 limit=$4 arg test at vars=() flags=()
	shift 4
	for arg; do
		case $arg in -*) flags+=("$arg") ;; *) vars+=("$arg") ;; esac
	done
	vars+=(BRAID_SOAK=1 "BRAID_TEST_SUMMARY=$out/lines.txt" "BRAID_TEST_LOGS=$out/$part.processes")
	rm -rf "$out/$part.processes" && mkdir -p "$out/$part.processes" || return 1
	if [ "$package" = ./... ]; then
		rest "$limit"
		return
	fi
	test=$(binary "$package") || return 1
	built[$test]=1
	at=$root/${package#./}
	(cd "$at" && env "${vars[@]}" "$test" -test.v -test.count=1 -test.timeout="$limit" -test.run="^($tests)\$" "${flags[@]}")
}

failed=0
trap 'echo; report; exit 130' INT TERM
for part in $wanted; do
	read -r -a row <<<"$(awk -v p="$part" '$1 == p' <<<"$table")"
	echo "soak: $part: ${row[2]} of ${row[1]}"
	from=$SECONDS
	if run "${row[@]}" >"$out/$part.log" 2>&1; then verdict=ok; else verdict=FAILED; fi
	rmdir "$out/$part.processes" 2>/dev/null # nothing failed
	# A pattern that meets no test passes: that is no soak.
	ran=$(grep -cE '^--- (PASS|FAIL)' "$out/$part.log")
	[ "$ran" -gt 0 ] || verdict=FAILED
	[ "$verdict" = ok ] || { failed=1; grep -E '^ *--- FAIL|^panic:|DATA RACE|no tests to run' "$out/$part.log" | head -20; }
	printf '%-6s  %-12s  %9s  %d tests\n' "$verdict" "$part" "$(shown $((SECONDS - from)))" "$ran" | tee -a "$out/parts.txt"
done
echo
report
exit "$failed"
