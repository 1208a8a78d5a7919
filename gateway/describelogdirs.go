package gateway

// DescribeLogDirs, key 35, versions 1 to 5.
//
// Like Apache Kafka: each broker is asked for its own; topics and partitions
// that it does not have are left out; null asks for all.
//
// Differences: a gateway shows one directory of the name "braid", which holds
// the partitions that it leads. A size is that of the partition's records on all
// the clusters that they lie on, once, at most a second old, and -1 where these do
// not tell within five seconds; sizes of the volume are -1, since it is the clusters'.

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// logDir is the name of the only directory.
const logDir = "braid"

// measureFor bounds how long clusters are asked for sizes.
const measureFor = 5 * time.Second

func describeLogDirs(call *call, req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	if code := call.onCluster(acl.Describe); code != wire.None {
		resp.ErrorCode = call.failed(code)
		return resp
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = logDir
	self := call.c.l.self.node
	var ids []catalog.ID // of dir.Topics
	// one adds those partitions of a topic that this gateway leads.
	one := func(v *view, t *catalog.Topic, partitions func(yield func(int32) bool)) {
		out := kmsg.NewDescribeLogDirsResponseDirTopic()
		out.Topic = t.Name
		for p := range partitions {
			if p < 0 || p >= t.Partitions || v.brokers.leader(t.ID, p) != self {
				continue
			}
			part := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			part.Partition, part.Size = p, -1
			out.Partitions = append(out.Partitions, part)
		}
		if len(out.Partitions) > 0 {
			dir.Topics = append(dir.Topics, out)
			ids = append(ids, t.ID)
		}
	}
	if req.Topics == nil {
		v := call.c.view()
		for t := range v.snapshot.Topics(call.tenant) {
			one(v, t, func(yield func(int32) bool) {
				for p := int32(0); p < t.Partitions && yield(p); p++ {
				}
			})
		}
	}
	v := call.caughtUp(namesOf(req.Topics, func(t *kmsg.DescribeLogDirsRequestTopic) string { return t.Topic }))
	// What is named twice is answered once.
	type key struct {
		topic     string
		partition int32
	}
	seen := map[key]bool{}
	for i := range req.Topics {
		t := known(v.snapshot, call.tenant, req.Topics[i].Topic)
		if t == nil {
			continue
		}
		one(v, t, func(yield func(int32) bool) {
			for _, p := range req.Topics[i].Partitions {
				if k := (key{t.Name, p}); !seen[k] {
					seen[k] = true
					if !yield(p) {
						return
					}
				}
			}
		})
	}
	measure(call, ids, dir.Topics)
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}

// measure fills the sizes in; ids are the topics'.
func measure(call *call, ids []catalog.ID, topics []kmsg.DescribeLogDirsResponseDirTopic) {
	ctx, cancel := context.WithTimeout(call.ctx, measureFor)
	defer cancel()
	sizes := call.g.logs.Sizes(ctx, ids)
	for i := range topics {
		known := sizes[ids[i]]
		for k := range topics[i].Partitions {
			if p := &topics[i].Partitions[k]; int(p.Partition) < len(known) {
				p.Size = known[p.Partition]
			}
		}
	}
}
