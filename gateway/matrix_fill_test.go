package gateway

import (
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
)

// askedNames are what a request of the matrix asks about.
type askedNames struct {
	tenant, cluster, topic, group, modern, txn, user, client, instance, member, modernMember string
	id, dir                                                                                  [16]byte
	producer                                                                                 int64
	producerEpoch                                                                            int16
	generation, epoch                                                                        int32
}

// ofModern asks about the group of KIP-848 in the place of the classic one.
func ofModern(n askedNames) askedNames {
	n.group, n.member = n.modern, n.modernMember
	return n
}

// filler fills the fields of requests: of a name in the schema, or of one in a struct of
// it. Each field that is a text, an id or bytes is listed: a test fails for one that is
// not, so that what a later release of the protocol asks by is not left empty.
var filler = map[string]func(askedNames) any{
	"Topic": topicOf, "TopicNames": topicOf, "SubscribedTopicNames": topicOf, "SubscribedTopicRegex": topicOf, "ResourceName": topicOf,
	"Group": groupOf, "Groups": groupOf, "CoordinatorKey": groupOf, "CoordinatorKeys": groupOf,
	"TransactionID": txnOf, "TransactionalID": txnOf, "TransactionalIDs": txnOf, "TransactionalIDPattern": txnOf,
	"Principal": func(n askedNames) any { return "User:" + n.user },
	"Match":     userOf, "DescribeUserSCRAMCredentialsRequestUser.Name": userOf, "AlterUserSCRAMCredentialsRequestDeletion.Name": userOf,
	"AlterUserSCRAMCredentialsRequestUpsertion.Name": userOf, "AlterClientQuotasRequestEntryEntity.Name": userOf,
	"EntityType": always("user"), "AlterClientQuotasRequestEntryEntity.Type": always("user"), "AlterClientQuotasRequestEntryOp.Key": always("producer_byte_rate"),
	"MemberID":      func(n askedNames) any { return n.member },
	"InstanceID":    func(n askedNames) any { return n.instance },
	"ClusterID":     func(n askedNames) any { return n.cluster },
	"SASLAuthBytes": func(n askedNames) any { return []byte("\x00" + n.user + "\x00guess") },
	"Rack":          always("rack"), "RackID": always("rack"), "Host": always("*"), "Metadata": always("m"), "Dir": always(logDir), "Feature": always("group.version"),
	"JoinGroupRequestProtocol.Metadata": always([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), "MemberAssignment": always([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
	"ProtocolType": always("consumer"), "Protocol": always("range"), "JoinGroupRequestProtocol.Name": always("range"), "Reason": always("because"), "ServerAssignor": always("uniform"),
	"StatesFilter": always("Stable"), "TypesFilter": always("classic"), "StateFilters": always("Ongoing"), "Mechanism": always("SCRAM-SHA-256"),
	"ClientSoftwareName": always("onlooker"), "ClientSoftwareVersion": always("1.0"),
	"CreateTopicsRequestTopicConfig.Name": always("retention.ms"), "AlterConfigsRequestResourceConfig.Name": always("retention.ms"),
	"IncrementalAlterConfigsRequestResourceConfig.Name": always("retention.ms"), "ConfigNames": always("retention.ms"), "Value": always("600000"),
	"Salt": always([]byte("sixteen bytes ..")), "SaltedPassword": always(make([]byte, 32)), "Records": always(oneRecord(nil)),
	"TopicID":            func(n askedNames) any { return n.id },
	"ReplicaDirectoryID": func(n askedNames) any { return n.dir },

	"ProducerID": func(n askedNames) any { return n.producer }, "ProducerIDFilters": func(n askedNames) any { return n.producer },
	"ProducerEpoch": func(n askedNames) any { return n.producerEpoch }, "Generation": func(n askedNames) any { return n.generation },
	"LeaderEpoch": func(n askedNames) any { return n.epoch }, "CurrentLeaderEpoch": func(n askedNames) any { return n.epoch }, "LastFetchedEpoch": func(n askedNames) any { return n.epoch },
	"ReplicaID": always(int32(-1)), "FetchRequestReplicaState.ID": always(int32(-1)), "NodeID": always(int32(1)), "Replicas": always(int32(1)),
	"Acks": always(int16(1)), "MaxWaitMillis": always(int32(1)), "MinBytes": always(int32(1)), "MaxBytes": always(int32(1 << 20)), "PartitionMaxBytes": always(int32(1 << 20)),
	"TimeoutMillis": always(int32(10_000)), "SessionTimeoutMillis": always(int32(10_000)), "RebalanceTimeoutMillis": always(int32(10_000)), "TransactionTimeoutMillis": always(int32(10_000)),
	"SessionEpoch": always(int32(-1)), "Timestamp": always(int64(-1)), "NumPartitions": always(int32(1)), "ReplicationFactor": always(int16(-1)), "Count": always(int32(9)),
	"ResponsePartitionLimit": always(int32(100)), "MemberEpoch": always(int32(-1)), "Iterations": always(int32(4096)), "AlterUserSCRAMCredentialsRequestUpsertion.Mechanism": always(int8(1)),
	"AlterUserSCRAMCredentialsRequestDeletion.Mechanism": always(int8(1)), "MaxVersionLevel": always(int16(1)), "UpgradeType": always(int8(1)),
	"ResourceType": always(int8(2)), "ResourcePatternType": always(int8(3)), "PermissionType": always(int8(3)), "Operation": always(int8(3)), "ResourceTypes": always(int8(2)),
	"AlterClientQuotasRequestEntryOp.Value": always(float64(1e6)), "HighWatermark": always(int64(-1)), "LogStartOffset": always(int64(-1)), "EndpointType": always(int8(1)),
	// Nothing is made by the way: a topic of the asked name would be the asker's own.
	"ValidateOnly": always(true), "Strict": always(false), "AllowAutoTopicCreation": always(false), "IncludeSynonyms": always(true), "IncludeDocumentation": always(true),
	"IncludeAuthorizedOperations": always(true), "IncludeClusterAuthorizedOperations": always(true), "IncludeTopicAuthorizedOperations": always(true), "IncludeFencedBrokers": always(true),
}

func topicOf(n askedNames) any { return n.topic }
func groupOf(n askedNames) any { return n.group }
func txnOf(n askedNames) any   { return n.txn }
func userOf(n askedNames) any  { return n.user }

func always(v any) func(askedNames) any { return func(askedNames) any { return v } }

// oneRecord is a batch; edit changes it before it is built.
func oneRecord(edit func(*batch.Builder)) []byte {
	b := batch.NewBuilder()
	if edit != nil {
		edit(b)
	}
	b.Add(batch.Record{Value: []byte("v")})
	out, err := b.Build()
	if err != nil {
		panic(err) // one record is no error
	}
	return out
}

// filled makes a request whose names are the given: its lists have one entry, those of
// partitions two.
func filled(tb testing.TB, req kmsg.Request, n askedNames) kmsg.Request {
	tb.Helper()
	if d, ok := req.(interface{ Default() }); ok {
		d.Default()
	}
	fillValue(tb, reflect.ValueOf(req).Elem(), "", n, 0)
	return req
}

// fillValue fills a value of a field, which is called by struct and name.
func fillValue(tb testing.TB, v reflect.Value, field string, n askedNames, part int32) {
	tb.Helper()
	_, short, _ := strings.Cut(field, ".")
	fill := filler[field]
	if fill == nil {
		fill = filler[short]
	}
	text := v.Kind() == reflect.String || v.Kind() == reflect.Array || v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
	if text && fill == nil {
		tb.Fatalf("nobody has said what %s is to be filled with", field)
	}
	if fill != nil && v.Kind() != reflect.Pointer && v.Kind() != reflect.Struct && (v.Kind() != reflect.Slice || text) {
		v.Set(reflect.ValueOf(fill(n)).Convert(v.Type()))
		return
	}
	fresh := func(v reflect.Value, part int32) {
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		fillValue(tb, v, field, n, part)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.Name != "Version" && f.Name != "UnknownTags" && f.Name != "ThrottleMillis" && f.IsExported() {
				fillValue(tb, v.Field(i), v.Type().Name()+"."+f.Name, n, part)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fresh(v.Elem(), part)
	case reflect.Slice:
		size := 1
		if short == "Partitions" {
			size = 2
		}
		v.Set(reflect.MakeSlice(v.Type(), size, size))
		for i := range size {
			fresh(v.Index(i), int32(i))
		}
	case reflect.Int32:
		if short == "Partitions" || short == "Partition" {
			v.SetInt(int64(part))
		}
	}
}
