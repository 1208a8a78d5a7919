#!/usr/bin/env bash
# Runs one Apache Kafka node in the foreground, for trying things out:
#
#   scripts/kafka.sh [PORT (19092)] [DATA-DIR (./braid-data/kafka-PORT)]
#
# It takes the jars that scripts/install-test-deps.sh fetched, and fetches them if they are not there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
port=${1:-19092}
data=${2:-$here/../braid-data/kafka-$port}
version=4.3.1
cache=${BRAID_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/braid}
[ -d "$cache/kafka-$version/libs" ] || "$here/install-test-deps.sh" kafka
mkdir -p "$data"
data=$(cd "$data" && pwd)
cat >"$data/server.properties" <<EOF
process.roles=broker,controller
node.id=1
listeners=CLIENT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=CLIENT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:$((port + 1))
log.dirs=$data/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
EOF
java() {
	command java -Xmx512m -cp "$cache/kafka-$version/libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn "$@"
}
if [ ! -f "$data/log/meta.properties" ]; then
	java kafka.tools.StorageTool format --standalone --config "$data/server.properties" \
		--cluster-id "$(java kafka.tools.StorageTool random-uuid)" >/dev/null
fi
echo "Apache Kafka $version on 127.0.0.1:$port, data in $data; Ctrl-C ends it" >&2
exec "$(command -v java)" -Xmx512m -cp "$cache/kafka-$version/libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka "$data/server.properties"
