package gateway

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/tenant/acl"
	"github.com/braidstream/braid/wire"
)

func commitOf(topic string, id [16]byte) []kmsg.OffsetCommitRequestTopic {
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.TopicID = topic, id
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = 0
	t.Partitions = append(t.Partitions, p)
	return []kmsg.OffsetCommitRequestTopic{t}
}

// guardedRequests has for every key what it needs, of a topic, the group "billing"
// and the transactional id "payments".
func guardedRequests(t testing.TB, f *fleet, topic catalog.Topic) map[int16][]guarded {
	var made atomic.Int32
	name := topic.Name
	str := kmsg.StringPtr
	onTopic := func(o acl.Operation) grant { return grant{o, acl.Topic, name} }
	onCluster := func(o acl.Operation) grant { return grant{o, acl.Cluster, acl.ClusterName} }
	onGroup := func(o acl.Operation) grant { return grant{o, acl.Group, "billing"} }
	onTxn := func(o acl.Operation) grant { return grant{o, acl.TransactionalID, "payments"} }
	const noTopic = wire.TopicAuthorizationFailed
	of := func(g ...grant) []grant { return g }

	produce := func(id *string) func() kmsg.Request {
		return func() kmsg.Request {
			req := produceRequest(name, topic.ID, -1, map[int32][]byte{0: records(t, func(b *batch.Builder) {
				if id != nil {
					b.Producer(catalog.ProducerIDBase, 0, 0)
					b.Transactional()
				}
			}, "a")})
			req.TransactionID = id
			return req
		}
	}
	fetch := func(replica int32) func() kmsg.Request {
		return func() kmsg.Request {
			req := fetchRequest(name, topic.ID, map[int32]int64{0: 0})
			req.MaxWaitMillis, req.ReplicaID, req.ReplicaState.ID = 0, replica, replica
			return req
		}
	}
	metadata := func(fill func(*kmsg.MetadataRequest)) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			fill(req)
			return req
		}
	}
	named := func(name *string, id [16]byte) kmsg.MetadataRequestTopic {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic, t.TopicID = name, id
		return t
	}
	commit := func() kmsg.Request {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.Generation, req.Topics = "billing", -1, commitOf(name, topic.ID)
		return req
	}
	offsets := func(all bool) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group = "billing"
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group = "billing"
			if !all {
				t := kmsg.NewOffsetFetchRequestTopic()
				t.Topic, t.Partitions = name, []int32{0}
				req.Topics = append(req.Topics, t)
				gt := kmsg.NewOffsetFetchRequestGroupTopic()
				gt.Topic, gt.TopicID, gt.Partitions = name, topic.ID, []int32{0}
				g.Topics = append(g.Topics, gt)
			}
			req.Groups = append(req.Groups, g)
			return req
		}
	}
	coordinatorOf := func(kind int8, key string) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = kind, key, []string{key}
			return req
		}
	}
	configs := func(kind kmsg.ConfigResourceType, resource string) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrDescribeConfigsRequest()
			req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: resource}}
			return req
		}
	}
	alter := func(kind kmsg.ConfigResourceType, resource string) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrAlterConfigsRequest()
			req.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: kind, ResourceName: resource}}
			return req
		}
	}
	incremental := func(kind kmsg.ConfigResourceType, resource string) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrIncrementalAlterConfigsRequest()
			req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: resource}}
			return req
		}
	}
	deletion := func(byID bool) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames = []string{"never-" + name}
			t := kmsg.NewDeleteTopicsRequestTopic()
			if byID {
				t.TopicID = f.topic(fmt.Sprintf("doomed-%d", made.Add(1)), 1).ID
			} else {
				t.Topic = str("never-" + name)
			}
			req.Topics = append(req.Topics, t)
			return req
		}
	}
	addPartitions := func() kmsg.Request {
		req := kmsg.NewPtrAddPartitionsToTxnRequest()
		req.TransactionalID, req.ProducerID = "payments", 1
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = name, []int32{0}
		req.Topics = append(req.Topics, t)
		x := kmsg.NewAddPartitionsToTxnRequestTransaction()
		x.TransactionalID, x.ProducerID = "payments", 1
		xt := kmsg.NewAddPartitionsToTxnRequestTransactionTopic()
		xt.Topic, xt.Partitions = name, []int32{0}
		x.Topics = append(x.Topics, xt)
		req.Transactions = append(req.Transactions, x)
		return req
	}
	initID := func(id *string) func() kmsg.Request {
		return func() kmsg.Request {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = id, 60_000, -1, -1
			return req
		}
	}
	create := func() kmsg.Request {
		req := kmsg.NewPtrCreateTopicsRequest()
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("made-%d", made.Add(1)), 1, 1
		req.Topics = append(req.Topics, t)
		return req
	}
	subscribe := func() kmsg.Request {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Group, req.MemberID, req.MemberEpoch = "billing", fmt.Sprintf("m%d", made.Add(1)), -1
		req.SubscribedTopicNames = []string{name}
		return req
	}
	txnCommit := func() kmsg.Request {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.TransactionalID, req.Group, req.ProducerID, req.Generation = "payments", "billing", 1, -1
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = name
		t.Partitions = append(t.Partitions, kmsg.NewTxnOffsetCommitRequestTopicPartition())
		req.Topics = append(req.Topics, t)
		return req
	}
	one := func(req kmsg.Request) func() kmsg.Request { return func() kmsg.Request { return req } }

	return map[int16][]guarded{
		keyProduce: {
			{version: 12, req: produce(nil), needs: of(onTopic(acl.Write))},
			{name: "by id", version: 13, req: produce(nil), needs: of(onTopic(acl.Write))},
			{name: "transactional", version: 11, req: produce(str("payments")), needs: of(onTxn(acl.Write), onTopic(acl.Write))},
		},
		keyFetch: {
			{version: 12, req: fetch(-1), needs: of(onTopic(acl.Read))},
			{name: "by id", version: 18, req: fetch(-1), needs: of(onTopic(acl.Read))},
			{name: "as a broker", version: 12, req: fetch(7), needs: of(onCluster(acl.ClusterAction)), code: noTopic},
		},
		keyListOffsets: {{version: 8, needs: of(onTopic(acl.Describe)), req: (func() kmsg.Request {
			req := kmsg.NewPtrListOffsetsRequest()
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = name
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Timestamp = -1
			t.Partitions = append(t.Partitions, p)
			req.Topics = append(req.Topics, t)
			return req
		})}},
		keyMetadata: {
			{version: 9, req: metadata(func(r *kmsg.MetadataRequest) { r.Topics = append(r.Topics, named(&name, [16]byte{})) }),
				needs: of(onTopic(acl.Describe))},
			{name: "by id", version: 12, req: metadata(func(r *kmsg.MetadataRequest) { r.Topics = append(r.Topics, named(nil, topic.ID)) }),
				needs: of(onTopic(acl.Describe))},
			{name: "all", version: 12, req: metadata(func(*kmsg.MetadataRequest) {}), needs: of(onTopic(acl.Describe)), hides: name},
			{name: "creation by id of nothing", version: 12, req: metadata(func(r *kmsg.MetadataRequest) {
				r.AllowAutoTopicCreation = true
				fresh := fmt.Sprintf("auto-%s-%d", name, made.Add(1))
				r.Topics = append(r.Topics, named(&fresh, [16]byte{}))
			}), needs: of(grant{acl.Describe, acl.Topic, acl.Wildcard}, grant{acl.Create, acl.Topic, acl.Wildcard}), code: noTopic},
		},
		keyOffsetCommit: {
			{version: 9, req: commit, needs: of(onGroup(acl.Read), onTopic(acl.Read))},
			{name: "by id", version: 10, req: commit, needs: of(onGroup(acl.Read), onTopic(acl.Read))},
		},
		keyOffsetFetch: {
			{version: 1, req: offsets(false), needs: of(onGroup(acl.Describe), onTopic(acl.Describe))},
			{version: 7, req: offsets(false), needs: of(onGroup(acl.Describe), onTopic(acl.Describe))},
			{name: "all", version: 7, req: offsets(true), needs: of(onGroup(acl.Describe), onTopic(acl.Describe)), hides: name},
			{version: 9, req: offsets(false), needs: of(onGroup(acl.Describe), onTopic(acl.Describe))},
			{name: "by id", version: 10, req: offsets(false), needs: of(onGroup(acl.Describe), onTopic(acl.Describe))},
			{name: "all", version: 9, req: offsets(true), needs: of(onGroup(acl.Describe), onTopic(acl.Describe)), hides: name},
		},
		keyFindCoordinator: {
			{version: 4, req: coordinatorOf(0, "billing"), needs: of(onGroup(acl.Describe))},
			{name: "transaction", version: 3, req: coordinatorOf(1, "payments"), needs: of(onTxn(acl.Describe))},
		},
		keyJoinGroup: {{version: 9, needs: of(onGroup(acl.Read)), req: (func() kmsg.Request {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = "billing", 10_000, 10_000, "consumer"
			p := kmsg.NewJoinGroupRequestProtocol()
			p.Name, p.Metadata = "range", []byte{1}
			req.Protocols = append(req.Protocols, p)
			return req
		})}},
		keySyncGroup:  {{version: 5, needs: of(onGroup(acl.Read)), req: one(&kmsg.SyncGroupRequest{Group: "billing", MemberID: "m", ProtocolType: str("consumer"), Protocol: str("range")})}},
		keyHeartbeat:  {{version: 4, needs: of(onGroup(acl.Read)), req: one(&kmsg.HeartbeatRequest{Group: "billing", MemberID: "m"})}},
		keyLeaveGroup: {{version: 5, needs: of(onGroup(acl.Read)), req: one(&kmsg.LeaveGroupRequest{Group: "billing", Members: []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}})}},
		keyDescribeGroups: {{version: 6, needs: of(onGroup(acl.Describe)),
			req: (func() kmsg.Request { return &kmsg.DescribeGroupsRequest{Groups: []string{"billing"}} })}},
		keyListGroups: {{version: 5, needs: of(onGroup(acl.Describe)), hides: "billing", instead: of(onCluster(acl.Describe)), req: (func() kmsg.Request { return kmsg.NewPtrListGroupsRequest() })}},
		keyApiVersions: {{version: 3, free: true, req: (func() kmsg.Request {
			return &kmsg.ApiVersionsRequest{ClientSoftwareName: "raw", ClientSoftwareVersion: "1"}
		})}},
		keyCreateTopics: {
			{version: 7, req: create, needs: of(grant{acl.Create, acl.Topic, acl.Wildcard}, grant{acl.DescribeConfigs, acl.Topic, acl.Wildcard})},
			{name: "cluster", version: 4, req: create, needs: of(onCluster(acl.Create)), code: noTopic},
		},
		keyDeleteTopics: {
			{version: 5, req: deletion(false), needs: of(grant{acl.Delete, acl.Topic, "never-" + name}), instead: of(onCluster(acl.Delete)), code: noTopic},
			{version: 6, req: deletion(false), needs: of(grant{acl.Delete, acl.Topic, "never-" + name})},
			{name: "by id", version: 6, req: deletion(true), needs: of(grant{acl.Delete, acl.Topic, acl.Wildcard})},
		},
		keyDeleteRecords: {{version: 2, needs: of(onTopic(acl.Delete)), req: (func() kmsg.Request {
			req := kmsg.NewPtrDeleteRecordsRequest()
			t := kmsg.NewDeleteRecordsRequestTopic()
			t.Topic = name
			t.Partitions = append(t.Partitions, kmsg.NewDeleteRecordsRequestTopicPartition())
			req.Topics, req.TimeoutMillis = append(req.Topics, t), 5000
			return req
		})}},
		keyInitProducerID: {
			{version: 4, req: initID(nil), needs: of(onCluster(acl.IdempotentWrite)), instead: of(onTopic(acl.Write))},
			{name: "transactional", version: 4, req: initID(str("payments")), needs: of(onTxn(acl.Write))},
		},
		keyWriteTxnMarkers: {{version: 1, needs: of(onCluster(acl.ClusterAction)), instead: of(onCluster(acl.Alter)), req: func() kmsg.Request {
			req := kmsg.NewPtrWriteTxnMarkersRequest()
			m := kmsg.NewWriteTxnMarkersRequestMarker()
			m.ProducerID = 4711
			m.Topics = append(m.Topics, kmsg.WriteTxnMarkersRequestMarkerTopic{Topic: "orders", Partitions: []int32{0}})
			req.Markers = append(req.Markers, m)
			return req
		}}},
		keyOffsetForLeaderEpoch: {{version: 4, needs: of(onTopic(acl.Describe)), instead: of(onCluster(acl.ClusterAction)), code: noTopic, req: (func() kmsg.Request {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			t := kmsg.NewOffsetForLeaderEpochRequestTopic()
			t.Topic = name
			t.Partitions = append(t.Partitions, kmsg.NewOffsetForLeaderEpochRequestTopicPartition())
			req.Topics = append(req.Topics, t)
			return req
		})}},
		keyAddPartitionsToTxn: {
			{version: 3, req: addPartitions, needs: of(onTxn(acl.Write), onTopic(acl.Write))},
			{name: "as a broker", version: 5, req: addPartitions, needs: of(onCluster(acl.ClusterAction))},
		},
		keyAddOffsetsToTxn: {
			{version: 4, needs: of(onTxn(acl.Write), onGroup(acl.Read)), req: one(&kmsg.AddOffsetsToTxnRequest{TransactionalID: "payments", Group: "billing", ProducerID: 1})},
		},
		keyEndTxn: {{version: 4, needs: of(onTxn(acl.Write)), req: one(&kmsg.EndTxnRequest{TransactionalID: "payments", ProducerID: 1})}},
		keyTxnOffsetCommit: {
			{version: 4, req: txnCommit, needs: of(onTxn(acl.Write), onGroup(acl.Read), onTopic(acl.Read))},
		},
		keyDescribeConfigs: {
			{version: 4, req: configs(kmsg.ConfigResourceTypeTopic, name), needs: of(onTopic(acl.DescribeConfigs)), instead: of(onTopic(acl.AlterConfigs)), code: noTopic},
			{name: "broker", version: 4, req: configs(kmsg.ConfigResourceTypeBroker, "1"), needs: of(onCluster(acl.DescribeConfigs))},
			{name: "group", version: 4, req: configs(kmsg.ConfigResourceTypeGroupConfig, "billing"), needs: of(onGroup(acl.DescribeConfigs))},
		},
		keyAlterConfigs: {
			{version: 2, req: alter(kmsg.ConfigResourceTypeTopic, name), needs: of(onTopic(acl.AlterConfigs))},
			{name: "broker", version: 2, req: alter(kmsg.ConfigResourceTypeBroker, "1"), needs: of(onCluster(acl.AlterConfigs))},
			{name: "group", version: 2, req: alter(kmsg.ConfigResourceTypeGroupConfig, "billing"), needs: of(onGroup(acl.AlterConfigs))},
		},
		keyIncrementalAlterConfigs: {
			{version: 1, req: incremental(kmsg.ConfigResourceTypeTopic, name), needs: of(onTopic(acl.AlterConfigs))},
			{name: "broker", version: 1, req: incremental(kmsg.ConfigResourceTypeBroker, "1"), needs: of(onCluster(acl.AlterConfigs))},
			{name: "group", version: 1, req: incremental(kmsg.ConfigResourceTypeGroupConfig, "billing"), needs: of(onGroup(acl.AlterConfigs))},
		},
		keyDescribeACLs: {{version: 3, needs: of(onCluster(acl.Describe)), req: one(&kmsg.DescribeACLsRequest{ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1})}},
		keyCreateACLs: {{version: 3, needs: of(onCluster(acl.Alter)), req: one(&kmsg.CreateACLsRequest{Creations: []kmsg.CreateACLsRequestCreation{
			{ResourceType: 2, ResourceName: "x", ResourcePatternType: 3, Principal: "User:else", Host: "*", Operation: 3, PermissionType: 3}}})}},
		keyDeleteACLs: {{version: 3, needs: of(onCluster(acl.Alter)), req: one(&kmsg.DeleteACLsRequest{Filters: []kmsg.DeleteACLsRequestFilter{
			{ResourceType: 2, ResourceName: str("y"), ResourcePatternType: 3, Operation: 3, PermissionType: 3}}})}},
		keyDescribeClientQuotas: {{version: 1, needs: of(onCluster(acl.DescribeConfigs)), req: one(&kmsg.DescribeClientQuotasRequest{})}},
		keyAlterClientQuotas: {{version: 1, needs: of(onCluster(acl.AlterConfigs)), req: one(&kmsg.AlterClientQuotasRequest{ValidateOnly: true,
			Entries: []kmsg.AlterClientQuotasRequestEntry{{Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: str("u")}},
				Ops: []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1}}}}})}},
		keyAlterReplicaLogDirs: {{version: 2, needs: of(onCluster(acl.Alter)), req: one(&kmsg.AlterReplicaLogDirsRequest{Dirs: []kmsg.AlterReplicaLogDirsRequestDir{
			{Dir: logDir, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: name, Partitions: []int32{0}}}}}})}},
		keyDescribeLogDirs: {{version: 4, needs: of(onCluster(acl.Describe)), req: one(kmsg.NewPtrDescribeLogDirsRequest())}},
		keyCreatePartitions: {{version: 3, needs: of(onTopic(acl.Alter)), req: one(&kmsg.CreatePartitionsRequest{
			Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: name, Count: 2}}, TimeoutMillis: 5000, ValidateOnly: true})}},
		keyDeleteGroups: {{version: 2, needs: of(grant{acl.Delete, acl.Group, "nobody"}),
			req: (func() kmsg.Request { return &kmsg.DeleteGroupsRequest{Groups: []string{"nobody"}} })}},
		keyElectLeaders: {{version: 2, needs: of(onCluster(acl.Alter)), req: one(&kmsg.ElectLeadersRequest{
			Topics: []kmsg.ElectLeadersRequestTopic{{Topic: name, Partitions: []int32{0}}}})}},
		keyAlterPartitionReassignments: {{version: 0, needs: of(onCluster(acl.Alter)), req: one(&kmsg.AlterPartitionAssignmentsRequest{
			Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: name, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{}}}}})}},
		keyListPartitionReassignments: {{version: 0, needs: of(onCluster(acl.Describe)), req: one(kmsg.NewPtrListPartitionReassignmentsRequest())}},
		keyOffsetDelete: {
			{version: 0, needs: of(onGroup(acl.Delete), onTopic(acl.Read)), req: (func() kmsg.Request {
				return &kmsg.OffsetDeleteRequest{Group: "billing", Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: name, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}}
			})},
		},
		keySaslHandshake:     {{version: 1, free: true, req: one(&kmsg.SASLHandshakeRequest{Mechanism: "PLAIN"})}},
		keySaslAuthenticate:  {{version: 2, free: true, req: one(kmsg.NewPtrSASLAuthenticateRequest())}},
		keyDescribeUserScram: {{version: 0, needs: of(onCluster(acl.Describe)), req: one(kmsg.NewPtrDescribeUserSCRAMCredentialsRequest())}},
		keyAlterUserScram: {{version: 0, needs: of(onCluster(acl.Alter)), req: one(&kmsg.AlterUserSCRAMCredentialsRequest{
			Deletions: []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "nobody", Mechanism: 1}}})}},
		keyDescribeQuorum:  {{version: 2, needs: of(onCluster(acl.Describe)), req: one(kmsg.NewPtrDescribeQuorumRequest())}},
		keyUpdateFeatures:  {{version: 1, needs: of(onCluster(acl.Alter)), req: one(kmsg.NewPtrUpdateFeaturesRequest())}},
		keyDescribeCluster: {{version: 2, free: true, req: one(&kmsg.DescribeClusterRequest{EndpointType: 1})}},
		keyDescribeProducers: {{version: 0, needs: of(onTopic(acl.Read)), req: one(&kmsg.DescribeProducersRequest{
			Topics: []kmsg.DescribeProducersRequestTopic{{Topic: name, Partitions: []int32{0}}}})}},
		keyDescribeTransactions: {{version: 0, needs: of(onTxn(acl.Describe)),
			req: (func() kmsg.Request { return &kmsg.DescribeTransactionsRequest{TransactionalIDs: []string{"payments"}} })}},
		keyListTransactions: {{version: 1, needs: of(onTxn(acl.Describe)), hides: "payments", req: one(&kmsg.ListTransactionsRequest{DurationFilterMillis: -1})}},
		keyConsumerGroupHeartbeat: {
			{version: 1, req: subscribe, needs: of(onGroup(acl.Read), onTopic(acl.Describe))},
		},
		keyConsumerGroupDescribe: {{version: 1, needs: of(onGroup(acl.Describe)),
			req: (func() kmsg.Request { return &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"billing"}} })}},
		keyListConfigResources: {{version: 1, needs: of(onCluster(acl.DescribeConfigs)), req: one(kmsg.NewPtrListConfigResourcesRequest())}},
		keyDescribeTopicPartitions: {
			{version: 0, needs: of(onTopic(acl.Describe)), req: one(&kmsg.DescribeTopicPartitionsRequest{
				Topics: []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: name}}, ResponsePartitionLimit: 10})},
			{name: "all", version: 0, needs: of(onTopic(acl.Describe)), hides: name, req: one(&kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 10})},
		},
	}
}
