// Package testkit gives tests the real thing to test against: Apache Kafka clusters as processes
// (Kafka, Shared), etcd as processes (StartEtcd), a TCP proxy that injects network faults (Proxy), and a Kafka proxy that harms
// acknowledged records on command (Saboteur), to prove that whoever checks notices.
//
// Clusters need what scripts/install-test-deps.sh puts into the cache directory; a test that asks
// for a cluster fails, with that hint, when it is not there.
package testkit
