package gateway

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// Assignments that Apache Kafka takes are taken, and say how many partitions there are; those that it refuses are
// refused with its codes.
func TestReplicaAssignments(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	r := f.raw()
	type part = kmsg.CreateTopicsRequestTopicReplicaAssignment
	create := func(name string, partitions int32, factor int16, given ...part) wire.Code {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor, rt.ReplicaAssignment = name, partitions, factor, given
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Topics = append(req.Topics, rt)
		return wire.Code(do[*kmsg.CreateTopicsResponse](r, 7, req).Topics[0].ErrorCode)
	}
	for _, c := range []struct {
		name       string
		partitions int32
		factor     int16
		given      []part
		want       wire.Code
	}{
		{"one", -1, -1, []part{{Partition: 0, Replicas: []int32{2}}}, 0},
		{"three", -1, -1, []part{{Partition: 2, Replicas: []int32{1, 2}}, {Partition: 0, Replicas: []int32{2, 1}}, {Partition: 1, Replicas: []int32{1, 2}}}, 0},
		{"with-partitions", 1, -1, []part{{Partition: 0, Replicas: []int32{1}}}, wire.InvalidRequest},
		{"with-factor", -1, 1, []part{{Partition: 0, Replicas: []int32{1}}}, wire.InvalidRequest},
		{"gap", -1, -1, []part{{Partition: 0, Replicas: []int32{1}}, {Partition: 2, Replicas: []int32{1}}}, wire.InvalidReplicaAssignment},
		{"negative", -1, -1, []part{{Partition: -1, Replicas: []int32{1}}}, wire.InvalidReplicaAssignment},
		{"twice", -1, -1, []part{{Partition: 0, Replicas: []int32{1}}, {Partition: 0, Replicas: []int32{1}}}, wire.InvalidReplicaAssignment},
		{"nobody", -1, -1, []part{{Partition: 0}}, wire.InvalidReplicaAssignment},
		{"stranger", -1, -1, []part{{Partition: 0, Replicas: []int32{3}}}, wire.InvalidReplicaAssignment},
		{"again", -1, -1, []part{{Partition: 0, Replicas: []int32{1, 1}}}, wire.InvalidReplicaAssignment},
		{"many", -1, -1, []part{{Partition: 0, Replicas: []int32{1, 2, 1}}}, wire.InvalidReplicaAssignment},
		{"uneven", -1, -1, []part{{Partition: 0, Replicas: []int32{1}}, {Partition: 1, Replicas: []int32{1, 2}}}, wire.InvalidReplicaAssignment},
	} {
		if got := create(c.name, c.partitions, c.factor, c.given...); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		topic := f.watcher.Snapshot().TopicByName(catalog.DefaultTenant, c.name)
		if (topic != nil) != (c.want == 0) || topic != nil && int(topic.Partitions) != len(c.given) {
			t.Errorf("%s: %+v", c.name, topic)
		}
	}
	type more = kmsg.CreatePartitionsRequestTopicAssignment
	for _, c := range []struct {
		count int32
		given []more
		want  wire.Code
	}{
		{3, []more{{Replicas: []int32{1}}}, wire.InvalidReplicaAssignment}, // two are added
		{3, []more{{Replicas: []int32{1}}, {Replicas: []int32{3}}}, wire.InvalidReplicaAssignment},
		{3, []more{{Replicas: []int32{1}}, {Replicas: []int32{1, 2}}}, wire.InvalidReplicaAssignment},
		{1, []more{{Replicas: []int32{1}}}, wire.InvalidPartitions},
		{3, []more{{Replicas: []int32{1}}, {Replicas: []int32{2}}}, 0},
	} {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "one", Count: c.count, Assignment: c.given}}
		if got := wire.Code(do[*kmsg.CreatePartitionsResponse](r, 3, req).Topics[0].ErrorCode); got != c.want {
			t.Errorf("%+v: %v, want %v", c, got, c.want)
		}
	}
	if topic := f.watcher.Snapshot().TopicByName(catalog.DefaultTenant, "one"); topic.Partitions != 3 {
		t.Errorf("%+v", topic)
	}
}
