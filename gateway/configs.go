package gateway

import (
	"context"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/catalog"
)

// brokerConfig is a broker config that is shown: what a gateway was started with.
type brokerConfig struct {
	name  string
	typ   ConfigType
	value string
	def   string
	doc   string
}

// brokerConfigs are those that clients and tools look at, by name. The list is
// short on purpose: a gateway is no broker, and what it has no say in it does not claim.
func (g *Gateway) brokerConfigs() []brokerConfig {
	def := (&Config{}).withDefaults()
	num := func(v int64) string { return strconv.FormatInt(v, 10) }
	ms := func(d time.Duration) string {
		if d <= 0 {
			return num(math.MaxInt64)
		}
		return num(d.Milliseconds())
	}
	return []brokerConfig{
		{"auto.create.topics.enable", ConfigBoolean, strconv.FormatBool(g.cfg.AutoCreateTopics), "true",
			"Enable auto creation of topic on the server."},
		{"connections.max.idle.ms", ConfigLong, ms(g.cfg.IdleTimeout), ms(def.IdleTimeout),
			"Connections that idle for longer are closed."},
		{"default.replication.factor", ConfigInt, "1", "1",
			"Topics are replicated by the clusters that hold them."},
		{"fetch.max.bytes", ConfigInt, num(int64(g.cfg.FetchMaxBytes)), num(int64(def.FetchMaxBytes)),
			"The maximum number of bytes we will return for a fetch request."},
		{"log.message.timestamp.after.max.ms", ConfigLong, ms(g.cfg.TimestampAfterMax), ms(def.TimestampAfterMax),
			"How far a record's timestamp may be ahead of the clock."},
		{"log.message.timestamp.before.max.ms", ConfigLong, ms(g.cfg.TimestampBeforeMax), ms(def.TimestampBeforeMax),
			"How far a record's timestamp may be behind the clock."},
		{"message.max.bytes", ConfigInt, num(int64(g.cfg.MaxMessageBytes)), num(int64(def.MaxMessageBytes)),
			"The largest record batch size allowed."},
		{"num.partitions", ConfigInt, num(int64(g.cfg.NumPartitions)), num(int64(def.NumPartitions)),
			"The default number of partitions of a topic."},
		{"socket.request.max.bytes", ConfigInt, num(int64(g.cfg.MaxRequestBytes)), num(int64(def.MaxRequestBytes)),
			"The maximum number of bytes in a request."},
	}
}

// level is a value of a config with where it comes from.
type level struct {
	name   string
	value  string
	source kmsg.ConfigSource
}

// levels are a topic config's values from the most specific to the default; the
// first is in force.
func (g *Gateway) levels(key *ConfigKey, t *catalog.Topic, brokers []brokerConfig) []level {
	var out []level
	if v, ok := t.Config[key.Name]; ok {
		out = append(out, level{key.Name, v, kmsg.ConfigSourceDynamicTopicConfig})
	}
	name := key.Name
	if key.Broker != "" {
		name = key.Broker
		if i := slices.IndexFunc(brokers, func(b brokerConfig) bool { return b.name == key.Broker }); i >= 0 && brokers[i].value != key.Default {
			out = append(out, level{name, brokers[i].value, kmsg.ConfigSourceStaticBrokerConfig})
		}
	}
	return append(out, level{name, key.Default, kmsg.ConfigSourceDefaultConfig})
}

// shown is what a DescribeConfigs request wants to see.
type shown struct {
	names          []string // none means all
	synonyms, docs bool
}

// add describes one config, whose value in force is the first of levels.
func (show shown) add(out []kmsg.DescribeConfigsResponseResourceConfig, key *ConfigKey, levels []level) []kmsg.DescribeConfigsResponseResourceConfig {
	if len(show.names) > 0 && !slices.Contains(show.names, key.Name) {
		return out
	}
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.Source, c.ConfigType = key.Name, levels[0].source, kmsg.ConfigType(key.Type)
	c.IsSensitive, c.ReadOnly = key.Sensitive, key.ReadOnly
	c.IsDefault = c.Source == kmsg.ConfigSourceDefaultConfig
	if !key.Sensitive {
		c.Value = key.told(levels[0].value)
	}
	if show.docs && key.Doc != "" {
		c.Documentation = &key.Doc
	}
	if show.synonyms {
		for j := range levels {
			s := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			s.Name, s.Source = levels[j].name, levels[j].source
			if !key.Sensitive {
				s.Value = key.told(levels[j].value)
			}
			c.ConfigSynonyms = append(c.ConfigSynonyms, s)
		}
	}
	return append(out, c)
}

// told is a value as Apache Kafka shows it: of a list each item once, without blanks around it.
func (k *ConfigKey) told(v string) *string {
	if k.Type != ConfigList {
		return &v
	}
	var items []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	v = strings.Join(items, ",")
	return &v
}

// topicConfigs describes the configs of a topic.
func (g *Gateway) topicConfigs(t *catalog.Topic, show shown) []kmsg.DescribeConfigsResponseResourceConfig {
	brokers := g.brokerConfigs()
	var out []kmsg.DescribeConfigsResponseResourceConfig
	keys := g.admin.ConfigKeys()
	for i := range keys {
		out = show.add(out, &keys[i], g.levels(&keys[i], t, brokers))
	}
	return out
}

// describeBroker describes the configs of a gateway, all read-only. Of its addresses
// that of the client's own listener is shown, as in Metadata.
func describeBroker(configs []brokerConfig, b *broker, listener string, show shown) []kmsg.DescribeConfigsResponseResourceConfig {
	node := strconv.Itoa(int(b.node))
	address := strings.ToUpper(listener) + "://" + net.JoinHostPort(b.host, strconv.Itoa(int(b.port)))
	configs = append(configs,
		brokerConfig{"advertised.listeners", ConfigList, address, "", "Where clients find the broker."},
		brokerConfig{"broker.id", ConfigInt, node, "-1", "The broker's id."},
		brokerConfig{"broker.rack", ConfigString, b.rack, "", "The broker's zone."},
		brokerConfig{"delete.topic.enable", ConfigBoolean, "true", "true", "Whether topics can be deleted."},
		brokerConfig{"node.id", ConfigInt, node, "-1", "The broker's id."})
	slices.SortFunc(configs, func(x, y brokerConfig) int { return strings.Compare(x.name, y.name) })
	var out []kmsg.DescribeConfigsResponseResourceConfig
	for _, c := range configs {
		var levels []level
		if c.value != c.def {
			levels = append(levels, level{c.name, c.value, kmsg.ConfigSourceStaticBrokerConfig})
		}
		if c.def != "" || c.value == "" {
			levels = append(levels, level{c.name, c.def, kmsg.ConfigSourceDefaultConfig})
		}
		out = show.add(out, &ConfigKey{Name: c.name, Type: c.typ, Doc: c.doc, ReadOnly: true}, levels)
	}
	return out
}

// createdConfigs is what CreateTopics tells of a new topic.
func (g *Gateway) createdConfigs(t *catalog.Topic) []kmsg.CreateTopicsResponseTopicConfig {
	brokers := g.brokerConfigs()
	keys := g.admin.ConfigKeys()
	out := make([]kmsg.CreateTopicsResponseTopicConfig, 0, len(keys))
	for i := range keys {
		key := &keys[i]
		levels := g.levels(key, t, brokers)
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Source, c.IsSensitive, c.ReadOnly = key.Name, int8(levels[0].source), key.Sensitive, key.ReadOnly
		if !key.Sensitive {
			c.Value = &levels[0].value
		}
		out = append(out, c)
	}
	return out
}

// topic finds a topic of the tenant, asking the catalog if this gateway has not
// heard of it; nil if there is none.
func (call *call) topic(ctx context.Context, name string) *catalog.Topic {
	find := func() *catalog.Topic {
		if t := call.g.watcher.Snapshot().TopicByName(call.tenant, name); t != nil && !t.Deleting {
			return t
		}
		return nil
	}
	if t := find(); t != nil {
		return t
	}
	call.g.fresh.refresh(ctx)
	return find()
}
