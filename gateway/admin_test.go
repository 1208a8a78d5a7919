package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

func ptr[T any](v T) *T { return &v }

func TestCreateTopics(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.NumPartitions = 5 }))
	f.topic("taken", 1)
	f.topic("col.lide", 1)
	r := f.raw()
	topic := func(name string, edit func(*kmsg.CreateTopicsRequestTopic)) kmsg.CreateTopicsRequestTopic {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, -1, -1
		if edit != nil {
			edit(&rt)
		}
		return rt
	}
	config := func(k string, v *string) func(*kmsg.CreateTopicsRequestTopic) {
		return func(rt *kmsg.CreateTopicsRequestTopic) {
			rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: v})
		}
	}
	for _, c := range []struct {
		topic   kmsg.CreateTopicsRequestTopic
		want    wire.Code
		message string
	}{
		{topic("good", nil), 0, ""},
		{topic("good-config", config("retention.ms", ptr("5"))), 0, ""},
		{topic("taken", nil), wire.TopicAlreadyExists, "already exists"},
		{topic("col_lide", nil), wire.InvalidTopicException, "collides with existing topic: col.lide"},
		{topic("", nil), wire.InvalidTopicException, "empty"},
		{topic("..", nil), wire.InvalidTopicException, ""},
		{topic("a b", nil), wire.InvalidTopicException, "characters"},
		{topic(strings.Repeat("x", 250), nil), wire.InvalidTopicException, "249"},
		{topic("__consumer_offsets", nil), wire.InvalidTopicException, "reserved"},
		{topic("zero", func(rt *kmsg.CreateTopicsRequestTopic) { rt.NumPartitions = 0 }), wire.InvalidPartitions, ""},
		{topic("rf", func(rt *kmsg.CreateTopicsRequestTopic) { rt.ReplicationFactor = 0 }), wire.InvalidReplicationFactor, ""},
		{topic("bad-config", config("retention.mss", ptr("5"))), wire.InvalidConfig, "retention.mss"},
		{topic("null-config", config("retention.ms", nil)), wire.InvalidConfig, "Null value"},
	} {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Topics = append(req.Topics, c.topic)
		out := do[*kmsg.CreateTopicsResponse](r, 7, req).Topics[0]
		if wire.Code(out.ErrorCode) != c.want || c.want != 0 && (out.ErrorMessage == nil || !strings.Contains(*out.ErrorMessage, c.message)) {
			t.Errorf("%q: %v %v, want %v %q", c.topic.Topic, wire.Code(out.ErrorCode), out.ErrorMessage, c.want, c.message)
		}
		if c.want == 0 && (out.NumPartitions != 5 || out.TopicID == [16]byte{}) {
			t.Errorf("%+v", out)
		}
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic("twice", nil), topic("once", nil), topic("twice", nil))
	req.ValidateOnly = true
	got := map[string]wire.Code{}
	for _, out := range do[*kmsg.CreateTopicsResponse](r, 5, req).Topics {
		got[out.Topic] = wire.Code(out.ErrorCode)
	}
	if len(got) != 2 || got["twice"] != wire.InvalidRequest || got["once"] != wire.None {
		t.Errorf("%v", got)
	}
	if f.watcher.Snapshot().TopicByName(catalog.DefaultTenant, "once") != nil {
		t.Error("a topic that was only validated exists")
	}
	f.admin.fail = fmt.Errorf("create physical-thing at 10.1.2.3:9092: %w", errors.New("broken"))
	req = kmsg.NewPtrCreateTopicsRequest()
	req.Topics = append(req.Topics, topic("fails", nil))
	out := do[*kmsg.CreateTopicsResponse](r, 7, req).Topics[0]
	if wire.Code(out.ErrorCode) != wire.UnknownServerError || out.ErrorMessage == nil || strings.Contains(*out.ErrorMessage, "10.1") {
		t.Errorf("%+v", out)
	}
}

func TestDeleteTopics(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	one, two := f.topic("one", 1), f.topic("two", 1)
	r := f.rawTo(1)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.Topics = []kmsg.DeleteTopicsRequestTopic{
		{Topic: ptr("one")}, {TopicID: two.ID}, {Topic: ptr("none")}, {TopicID: [16]byte{7}}, {Topic: ptr("both"), TopicID: two.ID},
	}
	out := do[*kmsg.DeleteTopicsResponse](r, 6, req).Topics
	want := []wire.Code{0, 0, wire.UnknownTopicOrPartition, wire.UnknownTopicID, wire.InvalidRequest}
	for i := range want {
		if wire.Code(out[i].ErrorCode) != want[i] {
			t.Errorf("%d: %v, want %v", i, wire.Code(out[i].ErrorCode), want[i])
		}
	}
	if out[0].TopicID != one.ID || out[1].Topic == nil || *out[1].Topic != "two" || out[3].Topic != nil {
		t.Errorf("%+v", out)
	}
	// The other gateway says so too.
	p := do[*kmsg.ProduceResponse](f.rawTo(0), 9, produceRequest("one", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, "v")})).Topics[0].Partitions[0]
	if wire.Code(p.ErrorCode) != wire.UnknownTopicOrPartition {
		t.Errorf("produce to a deleted topic: %v", wire.Code(p.ErrorCode))
	}
}

func TestCreatePartitions(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	f.topic("grow", 2)
	r, other := f.rawTo(0), f.rawTo(1)
	put(other, "grow", 1, "warm")
	for _, c := range []struct {
		name  string
		count int32
		dry   bool
		want  wire.Code
	}{
		{"grow", 2, false, wire.InvalidPartitions}, {"grow", 1, false, wire.InvalidPartitions}, {"none", 3, false, wire.UnknownTopicOrPartition},
		{"grow", 9, true, 0}, {"grow", 4, false, 0},
	} {
		req := kmsg.NewPtrCreatePartitionsRequest()
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = c.name, c.count
		req.Topics, req.ValidateOnly = append(req.Topics, rt), c.dry
		if got := wire.Code(do[*kmsg.CreatePartitionsResponse](r, 3, req).Topics[0].ErrorCode); got != c.want {
			t.Errorf("%s to %d: %v, want %v", c.name, c.count, got, c.want)
		}
	}
	put(other, "grow", 3, "new")
}

func TestConfigs(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.MaxMessageBytes = 5000 }))
	f.topic("conf", 1, "retention.ms", "77")
	r := f.raw()
	describe := func(kind kmsg.ConfigResourceType, name string, keys ...string) kmsg.DescribeConfigsResponseResource {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.IncludeSynonyms, req.IncludeDocumentation = true, true
		req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: keys}}
		return do[*kmsg.DescribeConfigsResponse](r, 4, req).Resources[0]
	}
	show := func(res kmsg.DescribeConfigsResponseResource) string {
		var b strings.Builder
		for _, c := range res.Configs {
			v := "null"
			if c.Value != nil {
				v = *c.Value
			}
			fmt.Fprintf(&b, "%s=%s %v", c.Name, v, c.Source)
			for _, s := range c.ConfigSynonyms {
				sv := "null"
				if s.Value != nil {
					sv = *s.Value
				}
				fmt.Fprintf(&b, " [%s=%s %v]", s.Name, sv, s.Source)
			}
			b.WriteString("; ")
		}
		return b.String()
	}
	for _, c := range []struct {
		key, want string
	}{
		{"retention.ms", "retention.ms=77 DYNAMIC_TOPIC_CONFIG [retention.ms=77 DYNAMIC_TOPIC_CONFIG] [log.retention.ms=604800000 DEFAULT_CONFIG]; "},
		{"max.message.bytes", "max.message.bytes=5000 STATIC_BROKER_CONFIG [message.max.bytes=5000 STATIC_BROKER_CONFIG] [message.max.bytes=1048588 DEFAULT_CONFIG]; "},
		{"secret.thing", "secret.thing=null DEFAULT_CONFIG [secret.thing=null DEFAULT_CONFIG]; "},
	} {
		if got := show(describe(kmsg.ConfigResourceTypeTopic, "conf", c.key)); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.key, got, c.want)
		}
	}
	if all := describe(kmsg.ConfigResourceTypeTopic, "conf"); len(all.Configs) != len(f.admin.ConfigKeys()) || all.Configs[0].Documentation == nil {
		t.Errorf("%+v", all)
	}
	if b := show(describe(kmsg.ConfigResourceTypeBroker, "1", "message.max.bytes")); !strings.HasPrefix(b, "message.max.bytes=5000 STATIC_BROKER_CONFIG") {
		t.Errorf("broker: %s", b)
	}
	// Who came in by this listener is told where it is, and by which ids brokers go.
	if b := show(describe(kmsg.ConfigResourceTypeBroker, "1", "advertised.listeners", "broker.id", "broker.rack")); b !=
		"advertised.listeners=PLAIN://"+f.addr(0)+" STATIC_BROKER_CONFIG [advertised.listeners=PLAIN://"+f.addr(0)+" STATIC_BROKER_CONFIG]; "+
			"broker.id=1 STATIC_BROKER_CONFIG [broker.id=1 STATIC_BROKER_CONFIG] [broker.id=-1 DEFAULT_CONFIG]; "+
			"broker.rack= DEFAULT_CONFIG [broker.rack= DEFAULT_CONFIG]; " {
		t.Errorf("broker: %s", b)
	}
	for _, c := range []struct {
		kind kmsg.ConfigResourceType
		name string
		want wire.Code
	}{
		{kmsg.ConfigResourceTypeTopic, "none", wire.UnknownTopicOrPartition}, {kmsg.ConfigResourceTypeBroker, "99", wire.InvalidRequest},
		{kmsg.ConfigResourceTypeBroker, "x", wire.InvalidRequest}, {kmsg.ConfigResourceTypeBroker, "", wire.None},
		{kmsg.ConfigResourceTypeBrokerLogger, "1", wire.InvalidRequest},
	} {
		if got := wire.Code(describe(c.kind, c.name).ErrorCode); got != c.want {
			t.Errorf("%v %q: %v, want %v", c.kind, c.name, got, c.want)
		}
	}

	alter := func(kind kmsg.ConfigResourceType, name string, dry bool, changes ...kmsg.IncrementalAlterConfigsRequestResourceConfig) wire.Code {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		req.ValidateOnly = dry
		req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: changes}}
		return wire.Code(do[*kmsg.IncrementalAlterConfigsResponse](r, 1, req).Resources[0].ErrorCode)
	}
	type change = kmsg.IncrementalAlterConfigsRequestResourceConfig
	topic := kmsg.ConfigResourceTypeTopic
	for _, c := range []struct {
		got, want wire.Code
		then      string
	}{
		{alter(topic, "conf", true, change{Name: "retention.ms", Value: ptr("1")}), 0, "77"},
		{alter(topic, "conf", false, change{Name: "retention.ms", Value: nil}), wire.InvalidRequest, "77"},
		{alter(topic, "conf", false, change{Name: "retention.ms", Op: 9, Value: ptr("1")}), wire.InvalidRequest, "77"},
		{alter(topic, "conf", false, change{Name: "retention.ms", Value: ptr("1")}, change{Name: "retention.ms", Value: ptr("2")}), wire.InvalidRequest, "77"},
		{alter(topic, "none", false), wire.UnknownTopicOrPartition, "77"},
		{alter(kmsg.ConfigResourceTypeBroker, "1", false), wire.InvalidRequest, "77"},
		{alter(kmsg.ConfigResourceTypeBroker, "1", false, change{Name: "log.cleaner.threads", Value: ptr("2")}), wire.InvalidRequest, "77"},
		// kafka-reassign-partitions takes throttles away that it did not set.
		{alter(kmsg.ConfigResourceTypeBroker, "1", false, change{Name: "leader.replication.throttled.rate", Op: 1}, change{Name: "follower.replication.throttled.rate", Op: 1}), 0, "77"},
		{alter(kmsg.ConfigResourceTypeBroker, "1", false, change{Name: "leader.replication.throttled.rate", Op: 1}, change{Name: "log.cleaner.threads", Value: ptr("2")}), wire.InvalidRequest, "77"},
		{alter(topic, "conf", false, change{Name: "nonsense", Value: ptr("1")}), wire.InvalidConfig, "77"},
	} {
		if c.got != c.want {
			t.Errorf("%v, want %v", c.got, c.want)
		}
		if v := *describe(topic, "conf", "retention.ms").Configs[0].Value; v != c.then {
			t.Errorf("retention.ms is %s", v)
		}
	}
	// A change is in force for the next request of this connection.
	if code := alter(topic, "conf", false, change{Name: "max.message.bytes", Value: ptr("100")}); code != 0 {
		t.Error(code)
	}
	big := produceRequest("conf", [16]byte{}, -1, map[int32][]byte{0: records(t, nil, strings.Repeat("x", 200))})
	if p := do[*kmsg.ProduceResponse](r, 9, big).Topics[0].Partitions[0]; wire.Code(p.ErrorCode) != wire.MessageTooLarge {
		t.Errorf("%v", wire.Code(p.ErrorCode))
	}
	if code := alter(topic, "conf", false, change{Name: "max.message.bytes", Op: 1}); code != 0 {
		t.Error(code)
	}
	if p := do[*kmsg.ProduceResponse](r, 9, big).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Errorf("%v", wire.Code(p.ErrorCode))
	}
	legacy := kmsg.NewPtrAlterConfigsRequest()
	legacy.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: topic, ResourceName: "conf",
		Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "cleanup.policy", Value: ptr("compact")}}}}
	if code := wire.Code(do[*kmsg.AlterConfigsResponse](r, 2, legacy).Resources[0].ErrorCode); code != 0 {
		t.Error(code)
	}
	if got := show(describe(topic, "conf", "retention.ms", "cleanup.policy")); !strings.Contains(got, "cleanup.policy=compact DYNAMIC") || !strings.Contains(got, "retention.ms=604800000 DEFAULT") {
		t.Errorf("after the replacement: %s", got)
	}
}

func TestDescribeTopicPartitionsInPages(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("a", 3)
	f.topic("b", 4)
	f.topic("c", 1)
	r := f.raw()
	walk := func(limit int32, names ...string) string {
		var b strings.Builder
		var cursor *kmsg.DescribeTopicPartitionsRequestCursor
		for pages := 0; ; pages++ {
			if pages > 20 {
				t.Fatal("no end")
			}
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.ResponsePartitionLimit, req.Cursor = limit, cursor
			for _, n := range names {
				req.Topics = append(req.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: n})
			}
			resp := do[*kmsg.DescribeTopicPartitionsResponse](r, 0, req)
			for _, t := range resp.Topics {
				fmt.Fprintf(&b, "%s", *t.Topic)
				if t.ErrorCode != 0 {
					fmt.Fprintf(&b, "!%d", t.ErrorCode)
				}
				for _, p := range t.Partitions {
					fmt.Fprintf(&b, "%d", p.Partition)
				}
			}
			b.WriteString("|")
			if resp.NextCursor == nil {
				return b.String()
			}
			cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: resp.NextCursor.Topic, Partition: resp.NextCursor.Partition}
		}
	}
	for _, c := range []struct {
		limit int32
		names []string
		want  string
	}{
		{100, nil, "a012b0123c0|"},
		{2, nil, "a01|a2b0|b12|b3c0|"},
		{3, nil, "a012|b012|b3c0|"},
		{0, []string{"c", "a"}, "a0|a1|a2|c0|"},
		{100, []string{"c", "nope", "a", "a"}, "a012c0nope!3|"},
	} {
		if got := walk(c.limit, c.names...); got != c.want {
			t.Errorf("limit %d, %v: %s, want %s", c.limit, c.names, got, c.want)
		}
	}
}

// A list is shown as an Apache Kafka node shows it.
func TestListsAreShownWithEachItemOnce(t *testing.T) {
	policy, other := &ConfigKey{Name: "cleanup.policy", Type: ConfigList}, &ConfigKey{Name: "retention.ms", Type: ConfigLong}
	for v, want := range map[string]string{"": "", " ": "", "delete, delete": "delete", " compact , delete ": "compact,delete"} {
		if got := *policy.told(v); got != want {
			t.Errorf("%q is shown as %q, want %q", v, got, want)
		}
	}
	if got := *other.told(" 5, 5"); got != " 5, 5" {
		t.Errorf("what is no list is shown as %q", got)
	}
}
