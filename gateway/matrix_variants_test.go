package gateway

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
)

// variant is one way to ask by a key: names and the request are as they are filled, and
// are changed by it.
type variant struct {
	name  string
	names func(askedNames) askedNames
	edit  func(req kmsg.Request, n askedNames)
}

func edited[R kmsg.Request](name string, edit func(req R, n askedNames)) variant {
	return variant{name: name, edit: func(req kmsg.Request, n askedNames) { edit(req.(R), n) }}
}

// variants are the ways to ask by each key besides the one that has every field filled.
var variants = map[int16][]variant{
	keyProduce: {
		edited("plain", func(r *kmsg.ProduceRequest, _ askedNames) { r.TransactionID = nil }),
		edited("of the producer", func(r *kmsg.ProduceRequest, n askedNames) {
			r.TransactionID = nil
			eachRecords(r, oneRecord(func(b *batch.Builder) { b.Producer(n.producer, n.producerEpoch, 0) }))
		}),
		edited("of the transaction", func(r *kmsg.ProduceRequest, n askedNames) {
			eachRecords(r, oneRecord(func(b *batch.Builder) { b.Producer(n.producer, n.producerEpoch, 0); b.Transactional() }))
		}),
		edited("all replicas", func(r *kmsg.ProduceRequest, _ askedNames) { r.TransactionID, r.Acks = nil, -1 }),
	},
	keyFetch: {
		edited("all of it", func(r *kmsg.FetchRequest, _ askedNames) { fromStart(r) }),
		edited("committed", func(r *kmsg.FetchRequest, _ askedNames) { fromStart(r); r.IsolationLevel = 1 }),
		edited("a session", func(r *kmsg.FetchRequest, _ askedNames) { fromStart(r); r.SessionEpoch = 0 }),
		edited("a session of another", func(r *kmsg.FetchRequest, _ askedNames) { fromStart(r); r.SessionID, r.SessionEpoch = 1, 1 }),
	},
	keyListOffsets: listOffsetsVariants(),
	keyMetadata: {
		edited("all", func(r *kmsg.MetadataRequest, _ askedNames) { r.Topics = nil }),
		edited("by id", func(r *kmsg.MetadataRequest, _ askedNames) { r.Topics[0].Topic = nil }),
		edited("by name", func(r *kmsg.MetadataRequest, _ askedNames) { r.Topics[0].TopicID = [16]byte{} }),
	},
	keyOffsetCommit: {{name: "modern", names: ofModern}, edited("simple", func(r *kmsg.OffsetCommitRequest, _ askedNames) { r.Generation, r.MemberID, r.InstanceID = -1, "", nil })},
	keyOffsetFetch: {{name: "modern", names: ofModern}, edited("all", func(r *kmsg.OffsetFetchRequest, _ askedNames) {
		r.Topics, r.Groups[0].Topics, r.Groups[0].MemberID = nil, nil, nil
	})},
	keyFindCoordinator: {{name: "modern", names: ofModern}, edited("of a transaction", func(r *kmsg.FindCoordinatorRequest, n askedNames) {
		r.CoordinatorType, r.CoordinatorKey, r.CoordinatorKeys = 1, n.txn, []string{n.txn}
	})},
	keyJoinGroup: {{name: "modern", names: ofModern},
		edited("by instance", func(r *kmsg.JoinGroupRequest, _ askedNames) { r.MemberID = "" }),
		edited("as a new one", func(r *kmsg.JoinGroupRequest, _ askedNames) { r.MemberID, r.InstanceID = "", nil })},
	keyHeartbeat:      {{name: "modern", names: ofModern}, edited("without an instance", func(r *kmsg.HeartbeatRequest, _ askedNames) { r.InstanceID = nil })},
	keyLeaveGroup:     {{name: "modern", names: ofModern}, edited("by instance", func(r *kmsg.LeaveGroupRequest, _ askedNames) { r.Members[0].MemberID = "" })},
	keySyncGroup:      {{name: "modern", names: ofModern}, edited("a follower", func(r *kmsg.SyncGroupRequest, _ askedNames) { r.GroupAssignment = nil })},
	keyDescribeGroups: {{name: "modern", names: ofModern}},
	keyListGroups: {
		edited("all", func(r *kmsg.ListGroupsRequest, _ askedNames) { r.StatesFilter, r.TypesFilter = nil, nil }),
		edited("consumers", func(r *kmsg.ListGroupsRequest, _ askedNames) {
			r.StatesFilter, r.TypesFilter = nil, []string{"consumer"}
		}),
	},
	keyDeleteTopics: {
		edited("by id", func(r *kmsg.DeleteTopicsRequest, _ askedNames) { r.Topics[0].Topic = nil }),
		edited("by name", func(r *kmsg.DeleteTopicsRequest, _ askedNames) { r.Topics[0].TopicID = [16]byte{} }),
	},
	keyInitProducerID: {edited("as a new one", func(r *kmsg.InitProducerIDRequest, n askedNames) { r.ProducerID, r.ProducerEpoch = -1, -1 })},
	keyAddPartitionsToTxn: {edited("verify", func(r *kmsg.AddPartitionsToTxnRequest, _ askedNames) {
		r.Transactions[0].VerifyOnly = true
	})},
	keyAddOffsetsToTxn: {{name: "modern", names: ofModern}},
	keyEndTxn:          {edited("commit", func(r *kmsg.EndTxnRequest, _ askedNames) { r.Commit = true })},
	keyTxnOffsetCommit: {{name: "modern", names: ofModern}, edited("simple", func(r *kmsg.TxnOffsetCommitRequest, _ askedNames) {
		r.Generation, r.MemberID, r.InstanceID = -1, "", nil
	})},
	keyDescribeACLs: {
		edited("all", func(r *kmsg.DescribeACLsRequest, _ askedNames) {
			*r = kmsg.DescribeACLsRequest{Version: r.Version, ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1}
		}),
		edited("that match", func(r *kmsg.DescribeACLsRequest, _ askedNames) {
			r.ResourcePatternType, r.Principal, r.Host, r.Operation, r.PermissionType = 2, nil, nil, 1, 1
		}),
		edited("of the principal", func(r *kmsg.DescribeACLsRequest, _ askedNames) {
			r.ResourceType, r.ResourceName, r.ResourcePatternType, r.Host, r.Operation, r.PermissionType = 1, nil, 1, nil, 1, 1
		}),
		edited("of the group", func(r *kmsg.DescribeACLsRequest, n askedNames) { r.ResourceType, r.ResourceName = 3, &n.group }),
		edited("of the transactional id", func(r *kmsg.DescribeACLsRequest, n askedNames) { r.ResourceType, r.ResourceName = 5, &n.txn }),
		edited("of the user", func(r *kmsg.DescribeACLsRequest, n askedNames) { r.ResourceType, r.ResourceName = 7, &n.user }),
	},
	keyDescribeConfigs: {
		edited("all", func(r *kmsg.DescribeConfigsRequest, _ askedNames) { r.Resources[0].ConfigNames = nil }),
		edited("of the group", func(r *kmsg.DescribeConfigsRequest, n askedNames) {
			r.Resources[0].ResourceType, r.Resources[0].ResourceName, r.Resources[0].ConfigNames = 32, n.group, nil
		}),
		edited("of the broker", func(r *kmsg.DescribeConfigsRequest, _ askedNames) {
			r.Resources[0].ResourceType, r.Resources[0].ResourceName, r.Resources[0].ConfigNames = 4, "1", nil
		}),
		edited("of metrics", func(r *kmsg.DescribeConfigsRequest, _ askedNames) { r.Resources[0].ResourceType = 16 }),
	},
	keyAlterConfigs: {edited("of the group", func(r *kmsg.AlterConfigsRequest, n askedNames) {
		r.Resources[0].ResourceType, r.Resources[0].ResourceName, r.Resources[0].Configs[0].Name = 32, n.group, "consumer.session.timeout.ms"
	})},
	keyIncrementalAlterConfigs: {
		edited("of the group", func(r *kmsg.IncrementalAlterConfigsRequest, n askedNames) {
			r.Resources[0].ResourceType, r.Resources[0].ResourceName, r.Resources[0].Configs[0].Name = 32, n.group, "consumer.session.timeout.ms"
		}),
		edited("taken away", func(r *kmsg.IncrementalAlterConfigsRequest, n askedNames) {
			r.Resources[0].Configs[0].Op, r.Resources[0].Configs[0].Value = 1, nil
		}),
	},
	keyDescribeLogDirs:            {edited("all", func(r *kmsg.DescribeLogDirsRequest, _ askedNames) { r.Topics = nil })},
	keyCreatePartitions:           {edited("anywhere", func(r *kmsg.CreatePartitionsRequest, _ askedNames) { r.Topics[0].Assignment = nil })},
	keyDeleteGroups:               {{name: "modern", names: ofModern}},
	keyElectLeaders:               {edited("all", func(r *kmsg.ElectLeadersRequest, _ askedNames) { r.Topics = nil })},
	keyListPartitionReassignments: {edited("all", func(r *kmsg.ListPartitionReassignmentsRequest, _ askedNames) { r.Topics = nil })},
	keyAlterPartitionReassignments: {edited("cancelled", func(r *kmsg.AlterPartitionAssignmentsRequest, _ askedNames) {
		for i := range r.Topics[0].Partitions {
			r.Topics[0].Partitions[i].Replicas = nil
		}
	})},
	keyOffsetDelete:      {{name: "modern", names: ofModern}},
	keyDescribeUserScram: {edited("all", func(r *kmsg.DescribeUserSCRAMCredentialsRequest, _ askedNames) { r.Users = nil })},
	keyDescribeClientQuotas: {
		edited("any", func(r *kmsg.DescribeClientQuotasRequest, _ askedNames) {
			r.Components[0].MatchType, r.Components[0].Match = 2, nil
		}),
		edited("the default", func(r *kmsg.DescribeClientQuotasRequest, _ askedNames) {
			r.Components[0].MatchType, r.Components[0].Match = 1, nil
		}),
		edited("all", func(r *kmsg.DescribeClientQuotasRequest, _ askedNames) { r.Components = nil }),
		edited("a client", func(r *kmsg.DescribeClientQuotasRequest, n askedNames) {
			r.Components[0].EntityType, r.Components[0].Match = "client-id", &n.client
		}),
		edited("an address", func(r *kmsg.DescribeClientQuotasRequest, _ askedNames) {
			at := plantedHost
			r.Components[0].EntityType, r.Components[0].Match = "ip", &at
		}),
	},
	keyListTransactions: {
		edited("all", func(r *kmsg.ListTransactionsRequest, _ askedNames) {
			r.StateFilters, r.ProducerIDFilters, r.DurationFilterMillis, r.TransactionalIDPattern = nil, nil, -1, nil
		}),
		edited("by producer", func(r *kmsg.ListTransactionsRequest, _ askedNames) {
			r.StateFilters, r.DurationFilterMillis, r.TransactionalIDPattern = nil, -1, nil
		}),
		edited("by state", func(r *kmsg.ListTransactionsRequest, _ askedNames) {
			r.ProducerIDFilters, r.DurationFilterMillis, r.TransactionalIDPattern = nil, -1, nil
		}),
		edited("by pattern", func(r *kmsg.ListTransactionsRequest, _ askedNames) {
			r.StateFilters, r.ProducerIDFilters, r.DurationFilterMillis = nil, nil, -1
		}),
		edited("long ones", func(r *kmsg.ListTransactionsRequest, _ askedNames) {
			r.StateFilters, r.ProducerIDFilters, r.DurationFilterMillis, r.TransactionalIDPattern = nil, nil, 0, nil
		}),
	},
	keyConsumerGroupHeartbeat: {{name: "modern", names: ofModern},
		{name: "joins", names: ofModern, edit: joins},
		{name: "beats", names: ofModern, edit: func(req kmsg.Request, _ askedNames) {
			r := req.(*kmsg.ConsumerGroupHeartbeatRequest)
			r.MemberEpoch, r.InstanceID, r.RackID, r.RebalanceTimeoutMillis, r.SubscribedTopicNames, r.SubscribedTopicRegex, r.ServerAssignor, r.Topics = 1, nil, nil, -1, nil, nil, nil, nil
		}}},
	keyConsumerGroupDescribe: {{name: "modern", names: ofModern}},
	keyListConfigResources: {
		edited("all", func(r *kmsg.ListConfigResourcesRequest, _ askedNames) { r.ResourceTypes = nil }),
		edited("groups", func(r *kmsg.ListConfigResourcesRequest, _ askedNames) { r.ResourceTypes = []int8{32} }),
	},
	keyDescribeTopicPartitions: {
		edited("from its start", func(r *kmsg.DescribeTopicPartitionsRequest, _ askedNames) { r.Cursor = nil }),
		edited("all", func(r *kmsg.DescribeTopicPartitionsRequest, _ askedNames) { r.Topics, r.Cursor = nil, nil }),
		edited("all from there on", func(r *kmsg.DescribeTopicPartitionsRequest, _ askedNames) { r.Topics = nil }),
	},
}

func eachRecords(r *kmsg.ProduceRequest, b []byte) {
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			r.Topics[i].Partitions[j].Records = b
		}
	}
}

// fromStart is a Fetch of everything, by who knows of no epoch.
func fromStart(r *kmsg.FetchRequest) {
	r.ForgottenTopics, r.ClusterID = nil, nil
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			p := &r.Topics[i].Partitions[j]
			p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.FetchOffset = -1, -1, 0
		}
	}
}

func listOffsetsVariants() (vs []variant) {
	for _, at := range []int64{-1, -2, -3, -4, -5, 0} {
		vs = append(vs, edited(fmt.Sprint("at ", at), func(r *kmsg.ListOffsetsRequest, _ askedNames) {
			for i := range r.Topics[0].Partitions {
				p := &r.Topics[0].Partitions[i]
				p.Timestamp, p.CurrentLeaderEpoch = at, -1
			}
		}))
	}
	return vs
}

// joins makes a heartbeat the first one of a member.
func joins(req kmsg.Request, _ askedNames) {
	r := req.(*kmsg.ConsumerGroupHeartbeatRequest)
	r.MemberEpoch, r.InstanceID, r.RackID, r.RebalanceTimeoutMillis, r.SubscribedTopicRegex, r.ServerAssignor = 0, nil, nil, 60_000, nil, nil
	r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
}

// making are what makes something, of a name that another tenant may have.
var making = map[int16][]variant{
	keyCreateTopics: {edited("made", func(r *kmsg.CreateTopicsRequest, _ askedNames) {
		r.ValidateOnly, r.Topics[0].ReplicaAssignment = false, nil
	})},
	keyCreateACLs: {edited("made", func(*kmsg.CreateACLsRequest, askedNames) {})},
	keyAlterUserScram: {edited("made", func(r *kmsg.AlterUserSCRAMCredentialsRequest, _ askedNames) {
		r.Deletions = nil
	})},
	keyAlterClientQuotas: {edited("made", func(r *kmsg.AlterClientQuotasRequest, _ askedNames) { r.ValidateOnly = false })},
	keyIncrementalAlterConfigs: {edited("made", func(r *kmsg.IncrementalAlterConfigsRequest, n askedNames) {
		r.ValidateOnly, r.Resources[0].ResourceType, r.Resources[0].ResourceName = false, 32, n.group
		value := "46000"
		r.Resources[0].Configs[0].Name, r.Resources[0].Configs[0].Value = "consumer.session.timeout.ms", &value
	})},
}

// well makes a request one that is answered without an error, by who has the names. What has
// to be there before it is made by the way.
var well = map[int16]func(w *walker, n askedNames, req kmsg.Request){
	keyProduce: func(_ *walker, _ askedNames, req kmsg.Request) { req.(*kmsg.ProduceRequest).TransactionID = nil },
	keyFetch:   func(_ *walker, _ askedNames, req kmsg.Request) { fromStart(req.(*kmsg.FetchRequest)) },
	keyOffsetCommit: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.OffsetCommitRequest)
		r.Group, r.Generation, r.MemberID, r.InstanceID = n.group+"-simple", -1, "", nil
	},
	keyOffsetFetch: func(_ *walker, _ askedNames, req kmsg.Request) {
		r := req.(*kmsg.OffsetFetchRequest)
		r.Groups[0].MemberID, r.RequireStable = nil, false
	},
	keyJoinGroup: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.JoinGroupRequest)
		r.Group, r.MemberID = n.group+"-joined", ""
		if r.Version == 4 { // which is told its member id first, by an error
			r.MemberID = w.asked(r).(*kmsg.JoinGroupResponse).MemberID
		}
	},
	keySyncGroup: func(_ *walker, _ askedNames, req kmsg.Request) {
		r, protocol := req.(*kmsg.SyncGroupRequest), "cooperative-sticky"
		r.Protocol, r.GroupAssignment = &protocol, nil
	},
	keyLeaveGroup: func(w *walker, n askedNames, req kmsg.Request) {
		join := filled(w.p.tb, withVersion(kmsg.NewPtrJoinGroupRequest(), 3), n).(*kmsg.JoinGroupRequest)
		join.Group, join.MemberID = n.group+"-left", ""
		joined := w.asked(join).(*kmsg.JoinGroupResponse)
		r := req.(*kmsg.LeaveGroupRequest)
		r.Group, r.MemberID, r.Members[0].MemberID, r.Members[0].InstanceID = join.Group, joined.MemberID, joined.MemberID, nil
	},
	keyCreateTopics: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.CreateTopicsRequest)
		r.Topics[0].Topic, r.Topics[0].ReplicaAssignment = n.topic+".new", nil
	},
	keyDeleteTopics: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.DeleteTopicsRequest)
		topic, err := w.p.admin.CreateTopic(w.p.tb.Context(), TopicSpec{Tenant: n.tenant, Name: fmt.Sprintf("%s.%d.gone", n.topic, w.corr), Partitions: 1, Config: map[string]string{}})
		if err == nil {
			_, err = w.p.watcher.Refresh(w.p.tb.Context())
		}
		if err != nil {
			w.p.tb.Fatal(err)
		}
		r.TopicNames, r.Topics[0].Topic, r.Topics[0].TopicID = []string{topic.Name}, nil, topic.ID
	},
	keyInitProducerID: func(_ *walker, n askedNames, req kmsg.Request) {
		r, txn := req.(*kmsg.InitProducerIDRequest), n.txn+"-raw"
		r.TransactionalID, r.ProducerID, r.ProducerEpoch = &txn, -1, -1
	},
	keyAddPartitionsToTxn: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.AddPartitionsToTxnRequest)
		r.TransactionalID, r.ProducerID, r.ProducerEpoch = w.transaction(n, false)
		r.Transactions[0].TransactionalID, r.Transactions[0].ProducerID, r.Transactions[0].ProducerEpoch = r.TransactionalID, r.ProducerID, r.ProducerEpoch
	},
	keyAddOffsetsToTxn: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.AddOffsetsToTxnRequest)
		r.TransactionalID, r.ProducerID, r.ProducerEpoch = w.transaction(n, false)
	},
	keyEndTxn: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.EndTxnRequest)
		r.TransactionalID, r.ProducerID, r.ProducerEpoch = w.transaction(n, true)
	},
	keyTxnOffsetCommit: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.TxnOffsetCommitRequest)
		r.TransactionalID, r.ProducerID, r.ProducerEpoch = w.transaction(n, true)
		r.Group, r.Generation, r.MemberID, r.InstanceID = n.group+"-simple", -1, "", nil
	},
	keyWriteTxnMarkers: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.WriteTxnMarkersRequest)
		r.Markers[0].ProducerID, r.Markers[0].ProducerEpoch = neverProducer+1, 0 // has nothing open
	},
	keyCreateACLs: func(w *walker, n askedNames, req kmsg.Request) {
		req.(*kmsg.CreateACLsRequest).Creations[0].ResourceName = n.topic + ".ruled"
	},
	keyDescribeConfigs: func(_ *walker, _ askedNames, req kmsg.Request) {
		req.(*kmsg.DescribeConfigsRequest).Resources[0].ConfigNames = nil
	},
	keyAlterReplicaLogDirs: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.AlterReplicaLogDirsRequest)
		r.Dirs[0].Topics[0].Partitions = nil
		for part, node := range w.leaders(n) {
			if int(node) == w.gateway+1 {
				r.Dirs[0].Topics[0].Partitions = append(r.Dirs[0].Topics[0].Partitions, int32(part))
			}
		}
	},
	keyCreatePartitions: func(_ *walker, _ askedNames, req kmsg.Request) {
		req.(*kmsg.CreatePartitionsRequest).Topics[0].Assignment = nil
	},
	keyDeleteGroups: func(w *walker, n askedNames, req kmsg.Request) {
		req.(*kmsg.DeleteGroupsRequest).Groups = []string{w.simple(n)}
	},
	keyOffsetDelete: func(w *walker, n askedNames, req kmsg.Request) { req.(*kmsg.OffsetDeleteRequest).Group = w.simple(n) },
	keyElectLeaders: func(_ *walker, _ askedNames, req kmsg.Request) { req.(*kmsg.ElectLeadersRequest).Topics = nil },
	keyAlterPartitionReassignments: func(w *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.AlterPartitionAssignmentsRequest)
		for part, node := range w.leaders(n) {
			r.Topics[0].Partitions[part].Replicas = []int32{node}
		}
	},
	keyAlterUserScram: func(_ *walker, n askedNames, req kmsg.Request) {
		r := req.(*kmsg.AlterUserSCRAMCredentialsRequest)
		r.Deletions, r.Upsertions[0].Name = nil, n.user+"-made"
	},
	keyDescribeQuorum: func(_ *walker, _ askedNames, req kmsg.Request) {
		r := req.(*kmsg.DescribeQuorumRequest)
		r.Topics[0].Topic, r.Topics[0].Partitions = metadataTopic, r.Topics[0].Partitions[:1]
	},
	keyUpdateFeatures: func(_ *walker, _ askedNames, req kmsg.Request) {
		req.(*kmsg.UpdateFeaturesRequest).FeatureUpdates = nil
	},
	keyConsumerGroupHeartbeat: func(_ *walker, n askedNames, req kmsg.Request) {
		joins(req, n)
		r := req.(*kmsg.ConsumerGroupHeartbeatRequest)
		r.Group, r.MemberID = n.modern, n.modernMember
	},
	keyConsumerGroupDescribe: func(_ *walker, n askedNames, req kmsg.Request) {
		req.(*kmsg.ConsumerGroupDescribeRequest).Groups = []string{n.modern}
	},
	keyDescribeTopicPartitions: func(_ *walker, _ askedNames, req kmsg.Request) {
		req.(*kmsg.DescribeTopicPartitionsRequest).Cursor = nil
	},
}

// leaders are the nodes that lead the partitions of the tenant's topic.
func (w *walker) leaders(n askedNames) []int32 {
	w.p.tb.Helper()
	req := withVersion(kmsg.NewPtrMetadataRequest(), 9)
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &n.topic
	req.Topics = append(req.Topics, t)
	resp := w.asked(req).(*kmsg.MetadataResponse)
	nodes := make([]int32, len(resp.Topics[0].Partitions))
	for _, p := range resp.Topics[0].Partitions {
		nodes[p.Partition] = p.Leader
	}
	return nodes
}

// simple makes a group that has offsets and no members.
func (w *walker) simple(n askedNames) string {
	w.p.tb.Helper()
	commit := filled(w.p.tb, withVersion(kmsg.NewPtrOffsetCommitRequest(), 8), n).(*kmsg.OffsetCommitRequest)
	commit.Group, commit.Generation, commit.MemberID, commit.InstanceID = n.group+"-gone", -1, "", nil
	w.asked(commit)
	return commit.Group
}

// transaction takes a transactional id anew and begins a transaction, if it is to be begun.
func (w *walker) transaction(n askedNames, begun bool) (txn string, id int64, epoch int16) {
	w.p.tb.Helper()
	txn = n.txn + "-raw"
	req := withVersion(kmsg.NewPtrInitProducerIDRequest(), 4)
	req.TransactionalID, req.TransactionTimeoutMillis = &txn, 60_000
	resp := w.asked(req).(*kmsg.InitProducerIDResponse)
	if begun && resp.ErrorCode == 0 {
		add := filled(w.p.tb, withVersion(kmsg.NewPtrAddOffsetsToTxnRequest(), 3), n).(*kmsg.AddOffsetsToTxnRequest)
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = txn, resp.ProducerID, resp.ProducerEpoch, n.group+"-simple"
		w.asked(add)
	}
	return txn, resp.ProducerID, resp.ProducerEpoch
}
