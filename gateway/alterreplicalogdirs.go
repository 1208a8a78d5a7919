package gateway

// AlterReplicaLogDirs, key 34, versions 1 to 2.
//
// Like Apache Kafka: a partition that is in the directory already is left there,
// a directory that does not exist is LOG_DIR_NOT_FOUND.
//
// Difference: there is one directory (see describelogdirs.go), so nothing can
// ever be moved.

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func alterReplicaLogDirs(call *call, req *kmsg.AlterReplicaLogDirsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	denied := call.onCluster(acl.Alter)
	v := call.caughtUp(func(yield func(string) bool) {
		for i := range req.Dirs {
			for j := range req.Dirs[i].Topics {
				if !yield(req.Dirs[i].Topics[j].Topic) {
					return
				}
			}
		}
	})
	for i := range req.Dirs {
		d := &req.Dirs[i]
		for j := range d.Topics {
			in := &d.Topics[j]
			out := kmsg.NewAlterReplicaLogDirsResponseTopic()
			out.Topic = in.Topic
			t := known(v.snapshot, call.tenant, in.Topic)
			for _, p := range in.Partitions {
				part := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				part.Partition = p
				switch {
				case denied != wire.None:
					part.ErrorCode = call.failed(denied)
				case d.Dir != logDir:
					part.ErrorCode = call.failed(wire.LogDirNotFound)
				case existing(t, in.Topic, p) != nil:
					part.ErrorCode = call.failed(wire.UnknownTopicOrPartition)
				}
				out.Partitions = append(out.Partitions, part)
			}
			resp.Topics = append(resp.Topics, out)
		}
	}
	return resp
}
