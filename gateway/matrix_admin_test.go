package gateway

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// adminRequests are the requests of TestEveryKeyEveryVersion for keys that tools
// use: topic has three partitions, all led by the only gateway, node 1.
func adminRequests(topic catalog.Topic) map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
	return map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error){
		keyAlterReplicaLogDirs: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrAlterReplicaLogDirsRequest()
			for _, dir := range []string{"/elsewhere", logDir} {
				d := kmsg.NewAlterReplicaLogDirsRequestDir()
				d.Dir = dir
				d.Topics = append(d.Topics, kmsg.AlterReplicaLogDirsRequestDirTopic{Topic: topic.Name, Partitions: []int32{0, 3}})
				req.Dirs = append(req.Dirs, d)
			}
			return req, func(resp kmsg.Response) error {
				ts := resp.(*kmsg.AlterReplicaLogDirsResponse).Topics
				if len(ts) != 2 {
					return fmt.Errorf("%+v", ts)
				}
				for i, want := range []wire.Code{wire.LogDirNotFound, wire.LogDirNotFound, wire.None, wire.UnknownTopicOrPartition} {
					if err := wantCode(ts[i/2].Partitions[i%2].ErrorCode, want); err != nil {
						return fmt.Errorf("answer %d: %w", i, err)
					}
				}
				return nil
			}
		},
		keyDescribeLogDirs: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeLogDirsRequest()
			req.Topics = append(req.Topics,
				kmsg.DescribeLogDirsRequestTopic{Topic: topic.Name, Partitions: []int32{0, 2, 2, 9}},
				kmsg.DescribeLogDirsRequestTopic{Topic: "nowhere", Partitions: []int32{0}})
			return req, func(resp kmsg.Response) error {
				ds := resp.(*kmsg.DescribeLogDirsResponse).Dirs
				if len(ds) != 1 || ds[0].Dir != logDir || len(ds[0].Topics) != 1 || len(ds[0].Topics[0].Partitions) != 2 || ds[0].TotalBytes != -1 {
					return fmt.Errorf("%+v", ds)
				}
				for _, p := range ds[0].Topics[0].Partitions {
					if p.Size < 0 {
						return fmt.Errorf("the size of partition %d is not told", p.Partition)
					}
				}
				return nil
			}
		},
		keyElectLeaders: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrElectLeadersRequest()
			req.Topics = append(req.Topics, kmsg.ElectLeadersRequestTopic{Topic: topic.Name, Partitions: []int32{1, 9}},
				kmsg.ElectLeadersRequestTopic{Topic: "nowhere", Partitions: []int32{0}})
			return req, func(resp kmsg.Response) error {
				e := resp.(*kmsg.ElectLeadersResponse)
				if e.ErrorCode != 0 || len(e.Topics) != 2 {
					return fmt.Errorf("%+v", e)
				}
				for i, want := range []wire.Code{wire.ElectionNotNeeded, wire.UnknownTopicOrPartition} {
					if err := wantCode(e.Topics[0].Partitions[i].ErrorCode, want); err != nil {
						return err
					}
				}
				return wantCode(e.Topics[1].Partitions[0].ErrorCode, wire.UnknownTopicOrPartition)
			}
		},
		keyAlterPartitionReassignments: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrAlterPartitionAssignmentsRequest()
			rt := kmsg.NewAlterPartitionAssignmentsRequestTopic()
			rt.Topic = topic.Name
			for p, replicas := range [][]int32{{1}, {2}, nil, {1}} {
				rp := kmsg.NewAlterPartitionAssignmentsRequestTopicPartition()
				rp.Partition, rp.Replicas = int32(p), replicas
				rt.Partitions = append(rt.Partitions, rp)
			}
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				a := resp.(*kmsg.AlterPartitionAssignmentsResponse)
				if a.ErrorCode != 0 || len(a.Topics) != 1 || len(a.Topics[0].Partitions) != 4 {
					return fmt.Errorf("%+v", a)
				}
				for i, want := range []wire.Code{wire.None, wire.InvalidReplicaAssignment, wire.NoReassignmentInProgress, wire.UnknownTopicOrPartition} {
					if err := wantCode(a.Topics[0].Partitions[i].ErrorCode, want); err != nil {
						return fmt.Errorf("partition %d: %w", i, err)
					}
				}
				return nil
			}
		},
		keyListPartitionReassignments: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			return kmsg.NewPtrListPartitionReassignmentsRequest(), func(resp kmsg.Response) error {
				if l := resp.(*kmsg.ListPartitionReassignmentsResponse); l.ErrorCode != 0 || len(l.Topics) != 0 {
					return fmt.Errorf("%+v", l)
				}
				return nil
			}
		},
		keyDescribeQuorum: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeQuorumRequest()
			for _, name := range []string{metadataTopic, topic.Name} {
				req.Topics = append(req.Topics, kmsg.DescribeQuorumRequestTopic{Topic: name, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 0}}})
			}
			return req, func(resp kmsg.Response) error {
				q := resp.(*kmsg.DescribeQuorumResponse)
				p := q.Topics[0].Partitions[0]
				if q.ErrorCode != 0 || p.ErrorCode != 0 || p.LeaderID != 1 || p.HighWatermark < time.Now().Add(-time.Hour).UnixMilli()/idleInterval.Milliseconds() || // no count of changes
					len(p.CurrentVoters) != 1 ||
					p.CurrentVoters[0].LogEndOffset != p.HighWatermark || v >= 2 && len(q.Nodes) != 1 {
					return fmt.Errorf("%+v", q)
				}
				return wantCode(q.Topics[1].Partitions[0].ErrorCode, wire.UnknownTopicOrPartition)
			}
		},
		keyUpdateFeatures: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrUpdateFeaturesRequest()
			u := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
			u.Feature, u.MaxVersionLevel, u.UpgradeType = "made.up", 1, 1
			req.FeatureUpdates = append(req.FeatureUpdates, u)
			return req, func(resp kmsg.Response) error {
				u := resp.(*kmsg.UpdateFeaturesResponse)
				if len(u.Results) > 0 {
					return fmt.Errorf("%+v", u)
				}
				return wantCode(u.ErrorCode, wire.InvalidUpdateVersion)
			}
		},
		keyListConfigResources: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrListConfigResourcesRequest()
			req.ResourceTypes = []int8{int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker)}
			return req, func(resp kmsg.Response) error {
				l := resp.(*kmsg.ListConfigResourcesResponse)
				names := map[string]bool{}
				for _, r := range l.ConfigResources {
					names[r.Name] = true
				}
				if l.ErrorCode != 0 || names[topic.Name] != (v >= 1) || names["1"] != (v >= 1) {
					return fmt.Errorf("%+v", l)
				}
				return nil
			}
		},
	}
}
