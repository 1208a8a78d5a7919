#!/usr/bin/env bash
# Installs what the tests need beyond git, make and Go: a JDK, Maven, Node, Python and kcat from the
# distribution when the command is missing, Apache Kafka from Maven Central, and the client programs.
#
#   scripts/install-test-deps.sh            everything
#   scripts/install-test-deps.sh kafka      only what starts Kafka clusters
#   scripts/install-test-deps.sh clients    only the client families
#
# Everything fetched lies outside the tree, in ${BRAID_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/braid}.
# Each part has a stamp that holds a digest of its inputs: a part whose inputs did not change is left
# alone, with no network. A part is built in a directory of its own and moved into place when whole,
# so that an interrupted run leaves nothing half done. Two runs at once wait for one another.
set -euo pipefail

KAFKA_VERSIONS=(4.3.1 3.9.2)
CLIENT_VERSION=4.3.1 # the kafka-clients jar the Java programs are compiled against
SLF4J_VERSION=1.7.36
DEPENDENCY_PLUGIN=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
MIN_JAVA=17

# JVM options for the training run of the class archive; testkit's must agree on collector and tiers.
JVM_OPTIONS=(-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
clients=$root/internal/clients
cache=${BRAID_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/braid}

say() { printf 'install-test-deps: %s\n' "$*" >&2; }
die() {
	say "$*"
	exit 1
}

# stubborn tries a command that uses the network four times, with growing pauses: one that
# failed for another reason fails again, half a minute later.
stubborn() {
	local pause
	for pause in 2 8 20; do
		"$@" && return 0
		say "failed, once more in $pause s: $*"
		sleep "$pause"
	done
	"$@"
}

what=${1:-all}
case $what in
all | kafka | clients) ;;
-h | --help)
	sed -n '2,7s/^# \{0,1\}//p' "$0"
	exit 0
	;;
*)
	say "unknown part '$what': it is all, kafka or clients"
	exit 2
	;;
esac

mkdir -p "$cache" || die "cannot create $cache: set BRAID_CACHE to a directory that can be written"
exec 9>"$cache/.lock"
flock 9

# digest prints one digest over its arguments' text and the files named after --.
digest() {
	local text=()
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		text+=("$1")
		shift
	done
	[ $# -gt 0 ] && shift
	{
		printf '%s\n' "${text[@]}"
		[ $# -eq 0 ] || cat "$@"
	} | sha256sum | cut -d' ' -f1
}

# fresh DIR DIGEST succeeds when DIR was completed with these inputs.
fresh() { [ -f "$1/.stamp" ] && [ "$(cat "$1/.stamp")" = "$2" ]; }

# settle BUILT DIR DIGEST puts a completed directory in its place.
settle() {
	printf '%s' "$3" >"$1/.stamp"
	rm -rf "$2"
	mv "$1" "$2"
}

# need PACKAGE... -- COMMAND... installs the packages unless every command is there.
need() {
	local packages=() missing=()
	while [ "$1" != -- ]; do
		packages+=("$1")
		shift
	done
	shift
	for c in "$@"; do
		command -v "$c" >/dev/null 2>&1 || missing+=("$c")
	done
	[ ${#missing[@]} -eq 0 ] && return 0
	install_packages "${missing[*]}" "${packages[@]}"
}

apt_updated=no
install_packages() {
	local why=$1
	shift
	command -v apt-get >/dev/null 2>&1 ||
		die "missing: $why. This machine has no apt-get: install it by hand (on Debian the packages are: $*)"
	local sudo=()
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null 2>&1 || die "missing: $why. Run as root, or install: $*"
		sudo=(sudo)
	fi
	say "installing $* (missing: $why)"
	if [ $apt_updated = no ]; then
		stubborn "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 update -qq >"$cache/apt.log" 2>&1 ||
			say "apt-get update failed, trying with the lists that are there (see $cache/apt.log)"
		apt_updated=yes
	fi
	stubborn "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends "$@" >>"$cache/apt.log" 2>&1 ||
		die "could not install $* (missing: $why): is the network there? The last lines of $cache/apt.log: $(tail -n 3 "$cache/apt.log")"
}

need_java() {
	need default-jdk-headless -- java javac
	local version
	version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
	[ "${version:-0}" -ge "$MIN_JAVA" ] ||
		die "java is version ${version:-unknown}, Kafka ${KAFKA_VERSIONS[0]} needs $MIN_JAVA or newer: put one first in PATH"
}

# --- Apache Kafka ---------------------------------------------------------------------------------

kafka_pom() {
	cat <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>braid.test</groupId><artifactId>kafka</artifactId><version>1</version>
		  <dependencies>
		    <dependency>
		      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$1</version>
		    </dependency>
		    <dependency>
		      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$1</version>
		      <exclusions><!-- one binding only: the simple one, which starts fast -->
		        <exclusion><groupId>org.slf4j</groupId><artifactId>slf4j-reload4j</artifactId></exclusion>
		        <exclusion><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId></exclusion>
		      </exclusions>
		    </dependency>
		    <dependency>
		      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>$SLF4J_VERSION</version>
		    </dependency>
		  </dependencies>
		</project>
	POM
}

class_path() {
	local jars=("$1"/libs/*.jar)
	local IFS=:
	printf '%s' "${jars[*]}"
}

install_kafka() {
	local version=$1 dir=$cache/kafka-$1 want
	want=$(digest "kafka 2" "$(kafka_pom "$version")" "$DEPENDENCY_PLUGIN")
	if ! fresh "$dir" "$want"; then
		need_java
		need maven -- mvn
		say "resolving Apache Kafka $version"
		local build=$cache/.build-kafka-$version
		rm -rf "$build"
		mkdir -p "$build/libs"
		kafka_pom "$version" >"$build/pom.xml"
		stubborn mvn -B -q -f "$build/pom.xml" "$DEPENDENCY_PLUGIN:copy-dependencies" \
			-DoutputDirectory="$build/libs" -DincludeScope=runtime >"$build/maven.log" 2>&1 ||
			die "could not resolve Apache Kafka $version with Maven: is the network there? The last lines of $build/maven.log: $(tail -n 3 "$build/maven.log")"
		[ -f "$build/libs/kafka_2.13-$version.jar" ] || die "Maven answered, but kafka_2.13-$version.jar is not there"
		settle "$build" "$dir" "$want"
	fi
	archive_classes "$version" "$dir"
}

# A class archive cuts the start of a node to about a third. It is an extra: without it nodes start slower.
archive_classes() {
	local version=$1 dir=$2 want
	# A JDK of another build cannot map the archive, hence its release file among the inputs.
	want=$(digest "archive 2" "${JVM_OPTIONS[*]}" "$(readlink -f "$(command -v java)")" "$(cat "$dir/.stamp")")
	if [ -f "$dir/classes.stamp" ] && [ "$(cat "$dir/classes.stamp")" = "$want" ]; then return 0; fi
	say "archiving the classes of Apache Kafka $version"
	rm -f "$dir/classes.jsa" "$dir/classes.stamp"
	# A second try, in case another process had the port.
	train "$version" "$dir" $((20000 + RANDOM % 10000)) || train "$version" "$dir" $((20000 + RANDOM % 10000)) ||
		say "no class archive for $version: nodes will start slower (see $dir/training.log)"
	# Stamped either way: what failed with these inputs would fail again, and take its time in each run.
	printf '%s' "$want" >"$dir/classes.stamp"
}

# train starts one node, waits until it serves, and ends it: on exit the JVM writes the archive.
train() {
	local version=$1 dir=$2 port=$3 data pid waited=0 result=1
	data=$(mktemp -d "$cache/.training.XXXXXX")
	cat >"$data/server.properties" <<-PROPERTIES
		process.roles=broker,controller
		node.id=1
		listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
		advertised.listeners=PLAINTEXT://127.0.0.1:$port
		controller.listener.names=CONTROLLER
		listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
		controller.quorum.voters=1@127.0.0.1:$((port + 1))
		log.dirs=$data/log
	PROPERTIES
	local cp
	cp=$(class_path "$dir")
	if java "${JVM_OPTIONS[@]}" -cp "$cp" kafka.tools.StorageTool format -t dHJhaW5pbmctY2x1c3RlcQ \
		-c "$data/server.properties" >"$dir/training.log" 2>&1; then
		java "${JVM_OPTIONS[@]}" -XX:ArchiveClassesAtExit="$dir/classes.jsa.new" \
			-Dorg.slf4j.simpleLogger.logFile=System.out -cp "$cp" \
			kafka.Kafka "$data/server.properties" >>"$dir/training.log" 2>&1 9>&- &
		pid=$!
		while kill -0 "$pid" 2>/dev/null && [ $waited -lt 300 ]; do
			if grep -q 'Kafka Server started' "$dir/training.log"; then
				result=0
				break
			fi
			sleep 0.1
			waited=$((waited + 1))
		done
		kill -TERM "$pid" 2>/dev/null || true
		wait "$pid" || true
		if [ $result -eq 0 ] && [ -s "$dir/classes.jsa.new" ]; then
			mv -f "$dir/classes.jsa.new" "$dir/classes.jsa"
		else
			result=1
		fi
	fi
	rm -rf "$data"
	return $result
}

# --- applications of Kafka's other libraries ------------------------------------------------------

# library_pom ARTIFACT: one jar, without what it depends on: Kafka's own jars are there.
library_pom() {
	cat <<-POM
		<project xmlns="http://maven.apache.org/POM/4.0.0">
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>braid.test</groupId><artifactId>apps</artifactId><version>1</version>
		  <dependencies>
		    <dependency>
		      <groupId>org.apache.kafka</groupId><artifactId>$1</artifactId><version>$CLIENT_VERSION</version>
		      <exclusions>
		        <exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>
		      </exclusions>
		    </dependency>
		  </dependencies>
		</project>
	POM
}

# install_library NAME ARTIFACT: Kafka Streams (its 70 MB of native stores are left out, stores are in
# memory), and the connectors that come with Kafka Connect, which is in Kafka's own jars.
install_library() {
	local dir=$cache/kafka-$1-$CLIENT_VERSION want
	want=$(digest "library 1" "$(library_pom "$2")" "$DEPENDENCY_PLUGIN")
	fresh "$dir" "$want" && return 0
	need_java
	need maven -- mvn
	say "resolving $2 $CLIENT_VERSION"
	local build=$cache/.build-$1
	rm -rf "$build"
	mkdir -p "$build/libs"
	library_pom "$2" >"$build/pom.xml"
	stubborn mvn -B -q -f "$build/pom.xml" "$DEPENDENCY_PLUGIN:copy-dependencies" \
		-DoutputDirectory="$build/libs" -DincludeScope=runtime >"$build/maven.log" 2>&1 ||
		die "could not resolve $2 with Maven: is the network there? The last lines of $build/maven.log: $(tail -n 3 "$build/maven.log")"
	[ -f "$build/libs/$2-$CLIENT_VERSION.jar" ] || die "Maven answered, but $2-$CLIENT_VERSION.jar is not there"
	settle "$build" "$dir" "$want"
}

# --- client families ------------------------------------------------------------------------------

install_java_client() {
	local dir=$cache/clients-java want
	want=$(digest "java 1" "$CLIENT_VERSION" -- "$clients"/java/*.java)
	fresh "$dir" "$want" && return 0
	need_java
	say "compiling the Java client"
	local build=$cache/.build-clients-java
	rm -rf "$build"
	mkdir -p "$build"
	javac -nowarn -cp "$(class_path "$cache/kafka-$CLIENT_VERSION")" -d "$build" "$clients"/java/*.java >"$cache/javac.log" 2>&1 ||
		die "the Java client does not compile: $(cat "$cache/javac.log")"
	settle "$build" "$dir" "$want"
}

install_python_clients() {
	local dir=$cache/clients-python want
	want=$(digest "python 1" -- "$clients/python/requirements.txt")
	if fresh "$dir" "$want" && "$dir/bin/python3" -c '' 2>/dev/null; then return 0; fi
	need python3 -- python3
	# Debian has venv apart from python3: ask for what is needed, not for a name of a package.
	python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages "python3's venv" python3-venv python3-pip
	say "installing the Python clients"
	# Made where it stays: a virtual environment cannot be moved.
	rm -rf "$dir"
	python3 -m venv "$dir" >"$cache/pip.log" 2>&1 || die "could not make a virtual environment: $(tail -n 3 "$cache/pip.log")"
	stubborn "$dir/bin/pip" install --retries 5 --disable-pip-version-check -q -r "$clients/python/requirements.txt" >>"$cache/pip.log" 2>&1 ||
		die "could not install the Python clients: is the network there? The last lines of $cache/pip.log: $(tail -n 3 "$cache/pip.log")"
	printf '%s' "$want" >"$dir/.stamp"
}

install_node_client() {
	local dir=$cache/clients-node want
	want=$(digest "node 1" -- "$clients/node/package.json")
	if fresh "$dir" "$want" && command -v node >/dev/null 2>&1; then return 0; fi
	need nodejs npm -- node npm
	say "installing the Node client"
	local build=$cache/.build-clients-node
	rm -rf "$build"
	mkdir -p "$build"
	cp "$clients/node/package.json" "$build/"
	(cd "$build" && stubborn npm install --no-audit --no-fund --ignore-scripts) >"$cache/npm.log" 2>&1 ||
		die "could not install the Node client: is the network there? The last lines of $cache/npm.log: $(tail -n 3 "$cache/npm.log")"
	settle "$build" "$dir" "$want"
}

if [ "$what" != clients ]; then
	need_java
	for version in "${KAFKA_VERSIONS[@]}"; do install_kafka "$version"; done
fi
if [ "$what" != kafka ]; then
	[ "$what" = all ] || install_kafka "$CLIENT_VERSION"
	need kcat -- kcat
	install_java_client
	install_library streams kafka-streams
	install_library connect connect-file
	install_python_clients
	install_node_client
fi
