package gateway

// Replica assignments, as CreateTopics and CreatePartitions take them: the brokers
// that a client wants a partition on. Gateways hold no replicas, so an assignment
// says how many partitions there are to be; it is checked as Apache Kafka does, and
// where the partitions go is then left to placement, as the replication factor is.

import (
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

func badAssignment(format string, args ...any) error {
	return &span.RejectedError{Code: wire.InvalidReplicaAssignment, Detail: fmt.Sprintf(format, args...)}
}

// created says how many partitions the assignments of a new topic are for.
func (b *brokers) created(t *kmsg.CreateTopicsRequestTopic) (int32, error) {
	if t.ReplicationFactor != -1 || t.NumPartitions != -1 {
		return 0, &span.RejectedError{Code: wire.InvalidRequest,
			Detail: "With an assignment of replicas the number of partitions and the replication factor have to be -1"}
	}
	n, replicas := len(t.ReplicaAssignment), 0
	seen := make([]bool, n)
	for i := range t.ReplicaAssignment {
		a := &t.ReplicaAssignment[i]
		switch {
		case a.Partition < 0 || int(a.Partition) >= n:
			return 0, badAssignment("Partition %d of %d: they are counted from 0, without a gap", a.Partition, n)
		case seen[a.Partition]:
			return 0, badAssignment("Partition %d is assigned more than once", a.Partition)
		}
		seen[a.Partition] = true
		if err := b.holds(a.Replicas, &replicas); err != nil {
			return 0, err
		}
	}
	return int32(n), nil
}

// added checks the assignments of partitions that a topic is to have in addition.
func (b *brokers) added(more int32, given []kmsg.CreatePartitionsRequestTopicAssignment) error {
	if int32(len(given)) != more {
		return badAssignment("%d partition(s) are to be added, and %d are assigned", more, len(given))
	}
	replicas := 0
	for i := range given {
		if err := b.holds(given[i].Replicas, &replicas); err != nil {
			return err
		}
	}
	return nil
}

// holds checks the replicas of one partition. There have to be as many as of those
// before it; 0 is before the first.
func (b *brokers) holds(replicas []int32, before *int) error {
	if len(replicas) == 0 {
		return badAssignment("A partition is assigned to no broker")
	}
	if *before != 0 && len(replicas) != *before {
		return badAssignment("A partition is assigned %d replica(s), and one before it %d", len(replicas), *before)
	}
	*before = len(replicas)
	if len(replicas) > len(b.list) {
		return badAssignment("A partition is assigned to %d brokers: there are %d", len(replicas), len(b.list))
	}
	for i, node := range replicas {
		switch {
		case b.find(node) == nil:
			return badAssignment("A partition is assigned to broker %d, which there is none of", node)
		case slices.Contains(replicas[:i], node):
			return badAssignment("A partition is assigned to broker %d more than once", node)
		}
	}
	return nil
}
