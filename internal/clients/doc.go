// Package clients drives one small program of each Kafka client family against any bootstrap
// address, and checks what they saw: Java, librdkafka (from Python, and as kcat), kafka-python,
// kafkajs and franz-go.
//
// The programs share one contract:
//
//	produce --bootstrap B --topic T --partitions P --producer ID --count N --rate R
//	consume --bootstrap B --topic T --group G [--protocol consumer]
//
// Both print one JSON object a line. A producer sends value ID/p/s to partition p = i mod P, with
// s = i div P, for i from 0 to N-1, at R records a second (0: as fast as it goes), with acks=all
// and idempotence, and prints {"partition":p,"offset":o,"value":"…"} for each acknowledgement; it
// exits 0 when all came. A consumer starts where its group stands, else at the earliest offset,
// prints each record likewise, prints {"assigned":[p,…]} at each assignment, and on SIGTERM commits,
// leaves and exits 0.
//
// kcat is a command of its own: the driver gives it lines to send and a format to print in. It does
// not tell offsets of acknowledgements, only, by its exit status, that all came.
package clients
