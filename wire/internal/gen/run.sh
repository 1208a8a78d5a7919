#!/bin/sh
# Writes the generated files of package wire; CLASSPATH names the jars (README.md).
set -eu
cd "$(dirname "$0")/../.."
: "${CLASSPATH:?must name kafka-clients and slf4j-api}"
for kind in schema codes; do
	java -cp "$CLASSPATH" internal/gen/Gen.java "$kind" 2>/dev/null >"$kind.tmp"
	gofmt "$kind.tmp" >"${kind}_gen.go"
	rm "$kind.tmp"
done
