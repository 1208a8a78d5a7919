package gateway

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The API keys that are served.
const (
	keyProduce                 = int16(kmsg.Produce)
	keyFetch                   = int16(kmsg.Fetch)
	keyListOffsets             = int16(kmsg.ListOffsets)
	keyMetadata                = int16(kmsg.Metadata)
	keyOffsetCommit            = int16(kmsg.OffsetCommit)
	keyOffsetFetch             = int16(kmsg.OffsetFetch)
	keyFindCoordinator         = int16(kmsg.FindCoordinator)
	keyJoinGroup               = int16(kmsg.JoinGroup)
	keyHeartbeat               = int16(kmsg.Heartbeat)
	keyLeaveGroup              = int16(kmsg.LeaveGroup)
	keySyncGroup               = int16(kmsg.SyncGroup)
	keyDescribeGroups          = int16(kmsg.DescribeGroups)
	keyListGroups              = int16(kmsg.ListGroups)
	keySaslHandshake           = int16(kmsg.SASLHandshake)
	keyApiVersions             = int16(kmsg.ApiVersions)
	keyCreateTopics            = int16(kmsg.CreateTopics)
	keyDeleteTopics            = int16(kmsg.DeleteTopics)
	keyDeleteRecords           = int16(kmsg.DeleteRecords)
	keyInitProducerID          = int16(kmsg.InitProducerID)
	keyOffsetForLeaderEpoch    = int16(kmsg.OffsetForLeaderEpoch)
	keyAddPartitionsToTxn      = int16(kmsg.AddPartitionsToTxn)
	keyAddOffsetsToTxn         = int16(kmsg.AddOffsetsToTxn)
	keyEndTxn                  = int16(kmsg.EndTxn)
	keyWriteTxnMarkers         = int16(kmsg.WriteTxnMarkers)
	keyTxnOffsetCommit         = int16(kmsg.TxnOffsetCommit)
	keyDescribeACLs            = int16(kmsg.DescribeACLs)
	keyCreateACLs              = int16(kmsg.CreateACLs)
	keyDeleteACLs              = int16(kmsg.DeleteACLs)
	keyDescribeConfigs         = int16(kmsg.DescribeConfigs)
	keyAlterConfigs            = int16(kmsg.AlterConfigs)
	keySaslAuthenticate        = int16(kmsg.SASLAuthenticate)
	keyCreatePartitions        = int16(kmsg.CreatePartitions)
	keyDeleteGroups            = int16(kmsg.DeleteGroups)
	keyDescribeClientQuotas    = int16(kmsg.DescribeClientQuotas)
	keyAlterClientQuotas       = int16(kmsg.AlterClientQuotas)
	keyIncrementalAlterConfigs = int16(kmsg.IncrementalAlterConfigs)
	keyOffsetDelete            = int16(kmsg.OffsetDelete)
	keyDescribeCluster         = int16(kmsg.DescribeCluster)
	keyDescribeProducers       = int16(kmsg.DescribeProducers)
	keyDescribeTransactions    = int16(kmsg.DescribeTransactions)
	keyListTransactions        = int16(kmsg.ListTransactions)
	keyDescribeTopicPartitions = int16(kmsg.DescribeTopicPartitions)

	keyAlterReplicaLogDirs         = int16(kmsg.AlterReplicaLogDirs)
	keyDescribeLogDirs             = int16(kmsg.DescribeLogDirs)
	keyElectLeaders                = int16(kmsg.ElectLeaders)
	keyAlterPartitionReassignments = int16(kmsg.AlterPartitionAssignments)
	keyListPartitionReassignments  = int16(kmsg.ListPartitionReassignments)
	keyDescribeQuorum              = int16(kmsg.DescribeQuorum)
	keyConsumerGroupHeartbeat      = int16(kmsg.ConsumerGroupHeartbeat)
	keyConsumerGroupDescribe       = int16(kmsg.ConsumerGroupDescribe)
	keyDescribeUserScram           = int16(kmsg.DescribeUserSCRAMCredentials)
	keyAlterUserScram              = int16(kmsg.AlterUserSCRAMCredentials)
	keyUpdateFeatures              = int16(kmsg.UpdateFeatures)
	keyListConfigResources         = int16(kmsg.ListConfigResources)
)

// api is one key as it is served: the versions of Apache Kafka 4.3. Which
// versions, and where we differ, heads the file of the key.
type api struct {
	key      int16
	min, max int16
	// offered is the smallest version that ApiVersions tells, if it is not min.
	offered int16
	serve   serveFunc // nil for Produce, which does not wait for its answer
}

// servedAPIs lists all keys, in their order. Nothing else is advertised.
func servedAPIs() []api {
	return []api{
		{key: keyProduce, min: 3, max: 13, offered: 0},
		{key: keyFetch, min: 4, max: 18, offered: 4, serve: serveFetch},
		{key: keyListOffsets, min: 1, max: 11, offered: 1, serve: message(listOffsets)},
		{key: keyMetadata, min: 0, max: 13, offered: 0, serve: serveMetadata},
		{key: keyOffsetCommit, min: 2, max: 10, offered: 2, serve: message(offsetCommit)},
		{key: keyOffsetFetch, min: 1, max: 10, offered: 1, serve: message(offsetFetch)},
		{key: keyFindCoordinator, min: 0, max: 6, offered: 0, serve: message(findCoordinator)},
		{key: keyJoinGroup, min: 0, max: 9, offered: 0, serve: message(joinGroup)},
		{key: keyHeartbeat, min: 0, max: 4, offered: 0, serve: message(heartbeat)},
		{key: keyLeaveGroup, min: 0, max: 5, offered: 0, serve: message(leaveGroup)},
		{key: keySyncGroup, min: 0, max: 5, offered: 0, serve: message(syncGroup)},
		{key: keyDescribeGroups, min: 0, max: 6, offered: 0, serve: message(describeGroups)},
		{key: keyListGroups, min: 0, max: 5, offered: 0, serve: message(listGroups)},
		{key: keySaslHandshake, min: 0, max: 1, offered: 0, serve: serveSaslHandshake},
		{key: keyApiVersions, min: 0, max: 4, offered: 0, serve: message(apiVersions)},
		{key: keyCreateTopics, min: 2, max: 7, offered: 2, serve: message(createTopics)},
		{key: keyDeleteTopics, min: 1, max: 6, offered: 1, serve: message(deleteTopics)},
		{key: keyDeleteRecords, min: 0, max: 2, offered: 0, serve: message(deleteRecords)},
		{key: keyInitProducerID, min: 0, max: 5, offered: 0, serve: message(initProducerID)},
		{key: keyOffsetForLeaderEpoch, min: 2, max: 4, offered: 2, serve: message(offsetForLeaderEpoch)},
		{key: keyAddPartitionsToTxn, min: 0, max: 5, offered: 0, serve: message(addPartitionsToTxn)},
		{key: keyAddOffsetsToTxn, min: 0, max: 4, offered: 0, serve: message(addOffsetsToTxn)},
		{key: keyEndTxn, min: 0, max: 5, offered: 0, serve: message(endTxn)},
		{key: keyWriteTxnMarkers, min: 1, max: 2, offered: 1, serve: message(writeTxnMarkers)},
		{key: keyTxnOffsetCommit, min: 0, max: 5, offered: 0, serve: message(txnOffsetCommit)},
		{key: keyDescribeACLs, min: 1, max: 3, offered: 1, serve: message(describeACLs)},
		{key: keyCreateACLs, min: 1, max: 3, offered: 1, serve: message(createACLs)},
		{key: keyDeleteACLs, min: 1, max: 3, offered: 1, serve: message(deleteACLs)},
		{key: keyDescribeConfigs, min: 1, max: 4, offered: 1, serve: message(describeConfigs)},
		{key: keyAlterConfigs, min: 0, max: 2, offered: 0, serve: message(alterConfigs)},
		{key: keyAlterReplicaLogDirs, min: 1, max: 2, offered: 1, serve: message(alterReplicaLogDirs)},
		{key: keyDescribeLogDirs, min: 1, max: 5, offered: 1, serve: message(describeLogDirs)},
		{key: keySaslAuthenticate, min: 0, max: 2, offered: 0, serve: serveSaslAuthenticate},
		{key: keyCreatePartitions, min: 0, max: 3, offered: 0, serve: message(createPartitions)},
		{key: keyDeleteGroups, min: 0, max: 2, offered: 0, serve: message(deleteGroups)},
		{key: keyElectLeaders, min: 0, max: 2, offered: 0, serve: message(electLeaders)},
		{key: keyIncrementalAlterConfigs, min: 0, max: 1, offered: 0, serve: message(incrementalAlterConfigs)},
		{key: keyAlterPartitionReassignments, min: 0, max: 1, offered: 0, serve: message(alterPartitionReassignments)},
		{key: keyListPartitionReassignments, min: 0, max: 0, offered: 0, serve: message(listPartitionReassignments)},
		{key: keyOffsetDelete, min: 0, max: 0, offered: 0, serve: message(offsetDelete)},
		{key: keyDescribeUserScram, min: 0, max: 0, offered: 0, serve: message(describeUserScramCredentials)},
		{key: keyAlterUserScram, min: 0, max: 0, offered: 0, serve: message(alterUserScramCredentials)},
		{key: keyDescribeClientQuotas, min: 0, max: 1, offered: 0, serve: message(describeClientQuotas)},
		{key: keyAlterClientQuotas, min: 0, max: 1, offered: 0, serve: message(alterClientQuotas)},
		{key: keyDescribeQuorum, min: 0, max: 2, offered: 0, serve: message(describeQuorum)},
		{key: keyUpdateFeatures, min: 0, max: 2, offered: 0, serve: message(updateFeatures)},
		{key: keyDescribeCluster, min: 0, max: 2, offered: 0, serve: message(describeCluster)},
		{key: keyDescribeProducers, min: 0, max: 0, offered: 0, serve: message(describeProducers)},
		{key: keyDescribeTransactions, min: 0, max: 0, offered: 0, serve: message(describeTransactions)},
		{key: keyListTransactions, min: 0, max: 2, offered: 0, serve: message(listTransactions)},
		{key: keyConsumerGroupHeartbeat, min: 0, max: 1, offered: 0, serve: message(consumerGroupHeartbeat)},
		{key: keyConsumerGroupDescribe, min: 0, max: 1, offered: 0, serve: message(consumerGroupDescribe)},
		{key: keyListConfigResources, min: 0, max: 1, offered: 0, serve: message(listConfigResources)},
		{key: keyDescribeTopicPartitions, min: 0, max: 0, offered: 0, serve: message(describeTopicPartitions)},
	}
}

// signsOn tells whether a key is one of those that come before authentication.
func signsOn(key int16) bool {
	return key == keyApiVersions || key == keySaslHandshake || key == keySaslAuthenticate
}

// maxKey bounds the index of apis.
const maxKey = 128

// apis is the table of keys by number.
type apis struct {
	list  []api
	byKey [maxKey]*api
}

func newAPIs() *apis {
	a := &apis{list: servedAPIs()}
	for i := range a.list {
		a.byKey[a.list[i].key] = &a.list[i]
	}
	return a
}

// find returns nil for a key that is not served.
func (a *apis) find(key int16) *api {
	if key < 0 || key >= maxKey {
		return nil
	}
	return a.byKey[key]
}
