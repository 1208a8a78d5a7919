// Package verify asks a Kafka endpoint whether it kept what it acknowledged.
//
// Run drives a workload of unique values through producers, direct consumers and a consumer group,
// reads everything once more at the end, and checks the history: what was lost, duplicated,
// reordered, skipped, read from nowhere or found at another offset than the acknowledged one, and
// how long no acknowledgement came. The checker, Check, is a function of a History, which other
// workloads can record too. Its questions are those of Jepsen's Kafka workload.
package verify
