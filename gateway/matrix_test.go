package gateway

import (
	"fmt"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

// Every key that is advertised answers in every version with what the client's
// own decoder understands to the last byte, and says the right thing.
func TestEveryKeyEveryVersion(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("matrix", 3)
	f.topic("other_topic", 1)
	other := f.topic("to-delete", 1)
	r := f.raw()
	str := func(s string) *string { return &s }
	produced := int64(0)

	// one makes a request for each key and judges the answer.
	one := map[int16]func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error){
		keyProduce: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := produceRequest("matrix", topic.ID, -1, map[int32][]byte{0: records(t, nil, "a", "b")})
			return req, func(resp kmsg.Response) error {
				p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
				if p.ErrorCode != 0 || p.BaseOffset != produced {
					return fmt.Errorf("code %d, offset %d, want %d", p.ErrorCode, p.BaseOffset, produced)
				}
				produced += 2
				return nil
			}
		},
		keyFetch: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			return fetchRequest("matrix", topic.ID, map[int32]int64{0: 0}), func(resp kmsg.Response) error {
				p := resp.(*kmsg.FetchResponse).Topics[0].Partitions[0]
				if p.ErrorCode != 0 || len(p.RecordBatches) == 0 || p.HighWatermark != produced {
					return fmt.Errorf("code %d, %d bytes, high watermark %d", p.ErrorCode, len(p.RecordBatches), p.HighWatermark)
				}
				return nil
			}
		},
		keyListOffsets: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrListOffsetsRequest()
			req.ReplicaID = -1
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = "matrix"
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Timestamp = -1
			rt.Partitions = append(rt.Partitions, p)
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				p := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
				if p.ErrorCode != 0 || p.Offset != produced {
					return fmt.Errorf("code %d, offset %d", p.ErrorCode, p.Offset)
				}
				return nil
			}
		},
		keyMetadata: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrMetadataRequest()
			rt := kmsg.NewMetadataRequestTopic()
			rt.Topic = str("matrix")
			req.Topics = append(req.Topics, rt)
			req.IncludeTopicAuthorizedOperations, req.IncludeClusterAuthorizedOperations = v%2 == 0, v%2 == 0
			return req, func(resp kmsg.Response) error {
				m := resp.(*kmsg.MetadataResponse)
				if len(m.Topics) != 1 || m.Topics[0].ErrorCode != 0 || len(m.Topics[0].Partitions) != 3 || len(m.Brokers) != 1 {
					return fmt.Errorf("%+v", m)
				}
				if p := m.Topics[0].Partitions[1]; p.Leader != 1 || v >= 7 && p.LeaderEpoch != 7 {
					return fmt.Errorf("%+v", p)
				}
				return nil
			}
		},
		keyOffsetCommit: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrOffsetCommitRequest()
			req.Group, req.Generation = "simple", -1
			rt := kmsg.NewOffsetCommitRequestTopic()
			rt.Topic, rt.TopicID = "matrix", topic.ID
			p := kmsg.NewOffsetCommitRequestTopicPartition()
			p.Offset = 1
			rt.Partitions = append(rt.Partitions, p)
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
			}
		},
		keyOffsetFetch: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group = "simple"
			rt := kmsg.NewOffsetFetchRequestTopic()
			rt.Topic, rt.Partitions = "matrix", []int32{0}
			req.Topics = append(req.Topics, rt)
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = "simple"
			gt := kmsg.NewOffsetFetchRequestGroupTopic()
			gt.Topic, gt.TopicID, gt.Partitions = "matrix", topic.ID, []int32{0}
			g.Topics = append(g.Topics, gt)
			req.Groups = append(req.Groups, g)
			return req, func(resp kmsg.Response) error {
				o := resp.(*kmsg.OffsetFetchResponse)
				at := int64(-2)
				if v < 8 {
					at = o.Topics[0].Partitions[0].Offset
				} else {
					at = o.Groups[0].Topics[0].Partitions[0].Offset
				}
				if at != 1 {
					return fmt.Errorf("offset %d: %+v", at, o)
				}
				return nil
			}
		},
		keyFindCoordinator: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey, req.CoordinatorKeys = "simple", []string{"simple", "another"}
			return req, func(resp kmsg.Response) error {
				c := resp.(*kmsg.FindCoordinatorResponse)
				if v < 4 && (c.ErrorCode != 0 || c.NodeID != 1) || v >= 4 && (len(c.Coordinators) != 2 || c.Coordinators[1].ErrorCode != 0) {
					return fmt.Errorf("%+v", c)
				}
				return nil
			}
		},
		keyJoinGroup: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = fmt.Sprintf("join-%d", v), 10_000, 10_000, "consumer"
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name, p.Metadata = "range", []byte{1}
			req.Protocols = append(req.Protocols, p)
			want := wire.None
			if v >= 4 {
				want = wire.MemberIDRequired
			}
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.JoinGroupResponse).ErrorCode, want)
			}
		},
		keySyncGroup: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrSyncGroupRequest()
			req.Group, req.MemberID, req.ProtocolType, req.Protocol = "nobody", "m", str("consumer"), str("range")
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.SyncGroupResponse).ErrorCode, wire.UnknownMemberID)
			}
		},
		keyHeartbeat: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Group, req.MemberID = "nobody", "m"
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.HeartbeatResponse).ErrorCode, wire.UnknownMemberID)
			}
		},
		keyLeaveGroup: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrLeaveGroupRequest()
			req.Group, req.MemberID = "nobody", "m"
			m := kmsg.NewLeaveGroupRequestMember()
			m.MemberID = "m"
			req.Members = append(req.Members, m)
			return req, func(resp kmsg.Response) error {
				l := resp.(*kmsg.LeaveGroupResponse)
				if v >= 3 && len(l.Members) == 1 {
					return wantCode(l.Members[0].ErrorCode, wire.UnknownMemberID)
				}
				return wantCode(l.ErrorCode, wire.UnknownMemberID)
			}
		},
		keyDescribeGroups: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups, req.IncludeAuthorizedOperations = []string{"simple"}, true
			return req, func(resp kmsg.Response) error {
				g := resp.(*kmsg.DescribeGroupsResponse).Groups[0]
				if g.ErrorCode != 0 || g.State != "Empty" || v >= 3 && g.AuthorizedOperations != acl.Supported(acl.Group) {
					return fmt.Errorf("%+v", g)
				}
				return nil
			}
		},
		keyListGroups: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			return kmsg.NewPtrListGroupsRequest(), func(resp kmsg.Response) error {
				for _, g := range resp.(*kmsg.ListGroupsResponse).Groups {
					if g.Group == "simple" {
						return nil
					}
				}
				return fmt.Errorf("%+v", resp)
			}
		},
		keyApiVersions: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = "raw", "1.0"
			return req, func(resp kmsg.Response) error { return codeError(resp.(*kmsg.ApiVersionsResponse).ErrorCode) }
		},
		keyCreateTopics: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrCreateTopicsRequest()
			rt := kmsg.NewCreateTopicsRequestTopic()
			rt.Topic, rt.NumPartitions, rt.ReplicationFactor = fmt.Sprintf("created-%d", v), 2, 3
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				out := resp.(*kmsg.CreateTopicsResponse).Topics[0]
				if out.ErrorCode != 0 || v >= 7 && out.TopicID == [16]byte{} || v >= 5 && (out.NumPartitions != 2 || len(out.Configs) == 0) {
					return fmt.Errorf("%+v", out)
				}
				return nil
			}
		},
		keyDeleteTopics: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDeleteTopicsRequest()
			name := fmt.Sprintf("doomed-%d", v)
			req.TopicNames = []string{name}
			rt := kmsg.NewDeleteTopicsRequestTopic()
			rt.Topic = &name
			byID := kmsg.NewDeleteTopicsRequestTopic()
			byID.TopicID = other.ID
			req.Topics = append(req.Topics, rt, byID)
			return req, func(resp kmsg.Response) error {
				for _, out := range resp.(*kmsg.DeleteTopicsResponse).Topics {
					if out.ErrorCode != 0 {
						return fmt.Errorf("%+v", out)
					}
				}
				return nil
			}
		},
		keyDeleteRecords: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDeleteRecordsRequest()
			rt := kmsg.NewDeleteRecordsRequestTopic()
			rt.Topic = "matrix"
			p := kmsg.NewDeleteRecordsRequestTopicPartition()
			p.Partition, p.Offset = 1, -1
			rt.Partitions = append(rt.Partitions, p)
			req.Topics = append(req.Topics, rt)
			req.TimeoutMillis = 5000
			return req, func(resp kmsg.Response) error {
				p := resp.(*kmsg.DeleteRecordsResponse).Topics[0].Partitions[0]
				if p.ErrorCode != 0 || p.LowWatermark != 0 {
					return fmt.Errorf("%+v", p)
				}
				return nil
			}
		},
		keyInitProducerID: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.ProducerID, req.ProducerEpoch = -1, -1
			return req, func(resp kmsg.Response) error {
				p := resp.(*kmsg.InitProducerIDResponse)
				if p.ErrorCode != 0 || p.ProducerID < catalog.ProducerIDBase || p.ProducerEpoch != 0 {
					return fmt.Errorf("%+v", p)
				}
				return nil
			}
		},
		keyOffsetForLeaderEpoch: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			req.ReplicaID = -1
			rt := kmsg.NewOffsetForLeaderEpochRequestTopic()
			rt.Topic = "matrix"
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.CurrentLeaderEpoch, p.LeaderEpoch = 7, 7
			rt.Partitions = append(rt.Partitions, p)
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				p := resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
				if p.ErrorCode != 0 || p.LeaderEpoch != 7 || p.EndOffset != produced {
					return fmt.Errorf("%+v", p)
				}
				return nil
			}
		},
		keyDescribeConfigs: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeConfigsRequest()
			req.IncludeSynonyms, req.IncludeDocumentation = true, true
			req.Resources = []kmsg.DescribeConfigsRequestResource{
				{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "matrix"},
				{ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"},
			}
			return req, func(resp kmsg.Response) error {
				for _, r := range resp.(*kmsg.DescribeConfigsResponse).Resources {
					if r.ErrorCode != 0 || len(r.Configs) == 0 {
						return fmt.Errorf("%+v", r)
					}
				}
				return nil
			}
		},
		keyAlterConfigs: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrAlterConfigsRequest()
			res := kmsg.NewAlterConfigsRequestResource()
			res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, "other_topic"
			c := kmsg.NewAlterConfigsRequestResourceConfig()
			c.Name, c.Value = "retention.ms", str("1000")
			res.Configs = append(res.Configs, c)
			req.Resources = append(req.Resources, res)
			return req, func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.AlterConfigsResponse).Resources[0].ErrorCode)
			}
		},
		keyIncrementalAlterConfigs: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			res := kmsg.NewIncrementalAlterConfigsRequestResource()
			res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeTopic, "other_topic"
			c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			c.Name, c.Value = "retention.ms", str("2000")
			res.Configs = append(res.Configs, c)
			req.Resources = append(req.Resources, res)
			return req, func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
			}
		},
		keyCreatePartitions: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrCreatePartitionsRequest()
			rt := kmsg.NewCreatePartitionsRequestTopic()
			rt.Topic, rt.Count = "other_topic", int32(v)+2
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error {
				return codeError(resp.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode)
			}
		},
		keyDeleteGroups: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{"nobody"}
			return req, func(resp kmsg.Response) error {
				return wantCode(resp.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode, wire.GroupIDNotFound)
			}
		},
		keyOffsetDelete: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrOffsetDeleteRequest()
			req.Group = "simple"
			rt := kmsg.NewOffsetDeleteRequestTopic()
			rt.Topic = "matrix"
			rt.Partitions = append(rt.Partitions, kmsg.NewOffsetDeleteRequestTopicPartition())
			req.Topics = append(req.Topics, rt)
			return req, func(resp kmsg.Response) error { return codeError(resp.(*kmsg.OffsetDeleteResponse).ErrorCode) }
		},
		keyDescribeCluster: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeClusterRequest()
			req.IncludeClusterAuthorizedOperations, req.EndpointType = true, 1
			return req, func(resp kmsg.Response) error {
				c := resp.(*kmsg.DescribeClusterResponse)
				if c.ErrorCode != 0 || len(c.Brokers) != 1 || c.ControllerID != 1 || c.ClusterID != "braid-test-cluster-0001" {
					return fmt.Errorf("%+v", c)
				}
				return nil
			}
		},
		keyDescribeTopicPartitions: func(t *testing.T, v int16) (kmsg.Request, func(kmsg.Response) error) {
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.ResponsePartitionLimit = 100
			return req, func(resp kmsg.Response) error {
				d := resp.(*kmsg.DescribeTopicPartitionsResponse)
				if len(d.Topics) < 2 || d.Topics[0].ErrorCode != 0 || d.NextCursor != nil || d.Topics[0].Partitions[0].EligibleLeaderReplicas == nil {
					return fmt.Errorf("%+v", d)
				}
				return nil
			}
		},
	}
	maps.Copy(one, adminRequests(topic))
	maps.Copy(one, saslRequests())
	maps.Copy(one, consumerGroupRequests())
	maps.Copy(one, txnRequests(topic))
	maps.Copy(one, ruleRequests())
	// The coordinator takes its shards up in the background.
	f.awaitGroups()
	for _, a := range servedAPIs() {
		mk := one[a.key]
		if mk == nil {
			t.Errorf("no request for key %d %s", a.key, apiName(a.key))
			continue
		}
		for v := a.min; v <= a.max; v++ {
			t.Run(fmt.Sprintf("%s/%d", apiName(a.key), v), func(t *testing.T) {
				if a.key == keyDeleteTopics {
					f.topic(fmt.Sprintf("doomed-%d", v), 1)
				}
				r.tb = t
				req, judge := mk(t, v)
				req.SetVersion(v)
				if err := judge(r.receive(req, r.send(req))); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func codeError(code int16) error { return wire.Code(code).Err() }

func wantCode(code int16, want wire.Code) error {
	if wire.Code(code) != want {
		return fmt.Errorf("code %v, want %v", wire.Code(code), want)
	}
	return nil
}
