package controller

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/braidstream/braid/gateway"
	"github.com/braidstream/braid/internal/nearest"
	"github.com/braidstream/braid/wire"
)

// Braid's own topic configs.
const (
	ConfigGuarantee  = "braid.guarantee"  // ordered, available
	ConfigStranded   = "braid.stranded"   // replay, in-place
	ConfigMaxSpans   = "braid.max.spans"  // spans of a chain before further moves are refused
	ConfigDurability = "braid.durability" // local clusters: fsync, interval=DURATION, os
	ConfigCluster    = "braid.cluster"    // where the topic is created; "" lets placement choose
)

const (
	guaranteeOrdered   = "ordered"
	guaranteeAvailable = "available"
	strandedReplay     = "replay"
	strandedInPlace    = "in-place"
	defaultMaxSpans    = 256
)

// topicConfig is one config: how it is checked, and whether physical topics have it.
type topicConfig struct {
	gateway.ConfigKey
	check func(value string) (want string, ok bool)
	// physical: passed to the physical topics as it is (all of these are set explicitly).
	physical bool
	local    bool     // only local clusters know it
	values   []string // that it has to choose from, if they are few
}

// topicConfigs are all configs of a topic, by name. Defaults are Apache Kafka 4.3's.
var topicConfigs = sortedConfigs([]topicConfig{
	list("cleanup.policy", "delete", "log.cleanup.policy", "delete, compact, both or nothing: what happens to old records", []string{"delete", "compact"}).onDisk(),
	one("compression.type", "producer", "compression.type", "producer keeps batches as they came; Braid never recompresses", []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}),
	integer("compression.gzip.level", "-1", "compression.gzip.level", "kept for tools: batches stay as they came", -1, 9),
	integer("compression.lz4.level", "9", "compression.lz4.level", "kept for tools: batches stay as they came", 1, 17),
	integer("compression.zstd.level", "3", "compression.zstd.level", "kept for tools: batches stay as they came", -131072, 22),
	whole("delete.retention.ms", "86400000", "log.cleaner.delete.retention.ms", "how long a compacted topic keeps tombstones", 0, math.MaxInt64).onDisk(),
	whole("file.delete.delay.ms", "60000", "log.segment.delete.delay.ms", "wait before a file is deleted", 0, math.MaxInt64).onDisk(),
	whole("flush.messages", "9223372036854775807", "log.flush.interval.messages", "records between forced syncs", 1, math.MaxInt64).onDisk(),
	whole("flush.ms", "9223372036854775807", "log.flush.interval.ms", "time between forced syncs", 0, math.MaxInt64).onDisk(),
	throttled("follower.replication.throttled.replicas"),
	integer("index.interval.bytes", "4096", "log.index.interval.bytes", "bytes between index entries", 0, math.MaxInt32).onDisk(),
	throttled("leader.replication.throttled.replicas"),
	whole("local.retention.bytes", "-2", "log.local.retention.bytes", "kept for tools: nothing is tiered; -2 is retention.bytes", -2, math.MaxInt64),
	whole("local.retention.ms", "-2", "log.local.retention.ms", "kept for tools: nothing is tiered; -2 is retention.ms", -2, math.MaxInt64),
	whole("max.compaction.lag.ms", "9223372036854775807", "log.cleaner.max.compaction.lag.ms", "a record is compacted at the latest then", 1, math.MaxInt64).onDisk(),
	integer("max.message.bytes", "1048588", "message.max.bytes", "largest record batch", 0, math.MaxInt32),
	whole("message.timestamp.after.max.ms", "3600000", "log.message.timestamp.after.max.ms", "how far ahead of the clock a record may be", 0, math.MaxInt64),
	whole("message.timestamp.before.max.ms", "9223372036854775807", "log.message.timestamp.before.max.ms", "how far behind the clock a record may be", 0, math.MaxInt64),
	one("message.timestamp.type", "CreateTime", "log.message.timestamp.type", "whose clock stamps records", []string{"CreateTime", "LogAppendTime"}).onDisk(),
	ratio("min.cleanable.dirty.ratio", "0.5", "log.cleaner.min.cleanable.ratio", "share of a log that must be dirty before it is compacted").onDisk(),
	whole("min.compaction.lag.ms", "0", "log.cleaner.min.compaction.lag.ms", "a record is not compacted before", 0, math.MaxInt64).onDisk(),
	integer("min.insync.replicas", "1", "min.insync.replicas", "kept for tools; clusters use their own", 1, math.MaxInt32),
	boolean("preallocate", "false", "log.preallocate", "reserve space for new files").onDisk(),
	boolean("remote.log.copy.disable", "false", "", "kept for tools: nothing is tiered"),
	boolean("remote.log.delete.on.disable", "false", "", "kept for tools: nothing is tiered"),
	{ConfigKey: key("remote.storage.enable", gateway.ConfigBoolean, "false", "", "tiered storage of clusters is not used: only false is taken"),
		check: func(v string) (string, bool) { return "false", v == "false" }},
	whole("retention.bytes", "-1", "log.retention.bytes", "size of a partition past which old records go; -1 none", -1, math.MaxInt64),
	whole("retention.ms", "604800000", "log.retention.ms", "age past which records go; -1 none", -1, math.MaxInt64),
	integer("segment.bytes", "1073741824", "log.segment.bytes", "size of a segment file", 1<<20, math.MaxInt32).onDisk(),
	integer("segment.index.bytes", "10485760", "log.index.size.max.bytes", "size of an index file", 4, math.MaxInt32).onDisk(),
	whole("segment.jitter.ms", "0", "log.roll.jitter.ms", "random part of segment.ms", 0, math.MaxInt64).onDisk(),
	whole("segment.ms", "604800000", "log.roll.ms", "age of a segment file", 1, math.MaxInt64).onDisk(),
	boolean("unclean.leader.election.enable", "false", "unclean.leader.election.enable", "always false on clusters: it loses acknowledged records"),
	one(ConfigGuarantee, guaranteeOrdered, "", "on the loss of a cluster: ordered waits for it, available goes on elsewhere", []string{guaranteeOrdered, guaranteeAvailable}),
	one(ConfigStranded, strandedReplay, "", "records that come back with a failed cluster: appended anew, or read in place", []string{strandedReplay, strandedInPlace}),
	integer(ConfigMaxSpans, strconv.Itoa(defaultMaxSpans), "", "spans of a chain past which it is not moved any more", 2, 1000),
	durability(),
	{ConfigKey: gateway.ConfigKey{Name: ConfigCluster, Type: gateway.ConfigString, Doc: "cluster on which the topic is created; empty: the least loaded"},
		check: func(v string) (string, bool) { return "the name of a cluster", len(v) <= 100 }},
})

func sortedConfigs(in []topicConfig) []topicConfig {
	slices.SortFunc(in, func(a, b topicConfig) int { return strings.Compare(a.Name, b.Name) })
	return in
}

func (c topicConfig) onDisk() topicConfig { c.physical = true; return c }

func key(name string, t gateway.ConfigType, def, broker, doc string) gateway.ConfigKey {
	return gateway.ConfigKey{Name: name, Type: t, Default: def, Broker: broker, Doc: doc}
}

func between(v string, lo, hi int64) (string, bool) {
	n, err := strconv.ParseInt(v, 10, 64)
	return "a whole number from " + strconv.FormatInt(lo, 10) + " to " + strconv.FormatInt(hi, 10), err == nil && n >= lo && n <= hi
}

func whole(name, def, broker, doc string, lo, hi int64) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigLong, def, broker, doc),
		check: func(v string) (string, bool) { return between(v, lo, hi) }}
}

func integer(name, def, broker, doc string, lo, hi int64) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigInt, def, broker, doc),
		check: func(v string) (string, bool) { return between(v, lo, hi) }}
}

func ratio(name, def, broker, doc string) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigDouble, def, broker, doc), check: func(v string) (string, bool) {
		f, err := strconv.ParseFloat(v, 64)
		return "a number from 0 to 1", err == nil && f >= 0 && f <= 1
	}}
}

func boolean(name, def, broker, doc string) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigBoolean, def, broker, doc), values: []string{"true", "false"}, check: func(v string) (string, bool) {
		return "true or false", v == "true" || v == "false"
	}}
}

func one(name, def, broker, doc string, of []string) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigString, def, broker, doc), values: of, check: func(v string) (string, bool) {
		return "one of " + strings.Join(of, ", "), slices.Contains(of, v)
	}}
}

func list(name, def, broker, doc string, of []string) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigList, def, broker, doc), values: of, check: func(v string) (string, bool) {
		if strings.TrimSpace(v) == "" {
			return "", true // none of them (KIP-1161)
		}
		for _, item := range strings.Split(v, ",") {
			if !slices.Contains(of, strings.TrimSpace(item)) {
				return "a list of " + strings.Join(of, ", "), false
			}
		}
		return "", true
	}}
}

// throttled is a list of replicas whose replication is throttled. Clusters
// replicate by themselves: it is checked as Kafka does, and without effect.
func throttled(name string) topicConfig {
	return topicConfig{ConfigKey: key(name, gateway.ConfigList, "", "", "kept for tools: clusters replicate by themselves"),
		check: func(v string) (string, bool) {
			ok := v == "" || v == "*"
			if !ok {
				ok = true
				for item := range strings.SplitSeq(v, ",") {
					partition, broker, found := strings.Cut(strings.TrimSpace(item), ":")
					_, perr := strconv.ParseUint(partition, 10, 31)
					_, berr := strconv.ParseUint(broker, 10, 31)
					ok = ok && found && perr == nil && berr == nil
				}
			}
			return "*, or PARTITION:BROKER,…", ok
		}}
}

func durability() topicConfig {
	return topicConfig{local: true, physical: true, values: []string{"fsync", "os"},
		ConfigKey: key(ConfigDurability, gateway.ConfigString, "fsync", "", "local clusters: when an append counts as kept: fsync, interval=DURATION or os"),
		check: func(v string) (string, bool) {
			ok := v == "fsync" || v == "os"
			if d, found := strings.CutPrefix(v, "interval="); found {
				interval, err := time.ParseDuration(d)
				ok = err == nil && interval > 0
			}
			return "fsync, interval=DURATION or os", ok
		}}
}

func findConfig(name string) *topicConfig {
	i, ok := slices.BinarySearchFunc(topicConfigs, name, func(c topicConfig, n string) int { return strings.Compare(c.Name, n) })
	if !ok {
		return nil
	}
	return &topicConfigs[i]
}

// TopicConfigNames lists what the configs of a topic may be named, sorted.
func TopicConfigNames() []string {
	names := make([]string, len(topicConfigs))
	for i := range topicConfigs {
		names[i] = topicConfigs[i].Name
	}
	return names
}

// TopicConfigValues lists the values that a topic config has to choose from; nil where they are many.
func TopicConfigValues(name string) []string {
	for i := range topicConfigs {
		if topicConfigs[i].Name == name {
			return slices.Clone(topicConfigs[i].values)
		}
	}
	return nil
}

// checkConfig checks one config as a user set it.
func checkConfig(name, value string) error {
	c := findConfig(name)
	if c == nil {
		hint := ""
		if n := nearest.Name(name, TopicConfigNames()); n != "" {
			hint = "; did you mean " + n + "?"
		}
		return rejected(wire.InvalidConfig, "unknown topic config name: %s%s", name, hint)
	}
	if len(value) > 1000 {
		return rejected(wire.InvalidConfig, "value of %s is longer than 1000 bytes", name)
	}
	if want, ok := c.check(value); !ok {
		return rejected(wire.InvalidConfig, "invalid value %q for configuration %s: want %s", value, name, want)
	}
	return nil
}

func checkConfigs(m map[string]string) error {
	if len(m) > 100 {
		return rejected(wire.InvalidConfig, "%d configs", len(m))
	}
	for _, k := range slices.Sorted(keysOf(m)) {
		if err := checkConfig(k, m[k]); err != nil {
			return err
		}
	}
	return nil
}

func keysOf(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// configOf is a topic's value of a config, or its default.
func configOf(m map[string]string, name string) string {
	if v, ok := m[name]; ok {
		return v
	}
	if c := findConfig(name); c != nil {
		return c.Default
	}
	return ""
}

// configInt is configOf of a number; what cannot be read is the default.
func configInt(m map[string]string, name string) int64 {
	n, err := strconv.ParseInt(configOf(m, name), 10, 64)
	if err != nil {
		n, _ = strconv.ParseInt(findConfig(name).Default, 10, 64) // the table's own: a number
	}
	return n
}

func isCompacted(m map[string]string) bool {
	return strings.Contains(configOf(m, "cleanup.policy"), "compact")
}

// isRestamped tells whether the cluster gives records the time of their append.
func isRestamped(m map[string]string) bool {
	return configOf(m, "message.timestamp.type") == "LogAppendTime"
}

func isDeleted(m map[string]string) bool {
	return strings.Contains(configOf(m, "cleanup.policy"), "delete")
}

// applyConfigChanges gives a topic's configs after an alteration; they are checked.
func applyConfigChanges(old map[string]string, replace bool, changes []gateway.ConfigChange) (map[string]string, error) {
	out := map[string]string{}
	if !replace {
		for k, v := range old {
			out[k] = v
		}
	}
	for _, ch := range changes {
		c := findConfig(ch.Key)
		if c == nil {
			if ch.Op == gateway.ConfigDelete {
				continue // what is not there may be removed, as in Kafka
			}
			return nil, checkConfig(ch.Key, "")
		}
		switch ch.Op {
		case gateway.ConfigSet:
			out[ch.Key] = ch.Value
		case gateway.ConfigDelete:
			delete(out, ch.Key)
		case gateway.ConfigAppend, gateway.ConfigSubtract:
			if c.Type != gateway.ConfigList {
				return nil, rejected(wire.InvalidConfig, "%s is not a list: it cannot be appended to or subtracted from", ch.Key)
			}
			out[ch.Key] = listChange(configOf(out, ch.Key), ch.Value, ch.Op == gateway.ConfigAppend)
		default:
			return nil, rejected(wire.InvalidRequest, "unknown operation %d on config %s", ch.Op, ch.Key)
		}
	}
	return out, checkConfigs(out)
}

// listChange appends to a list or takes from it. An empty item that is appended makes the list an invalid one, unless
// it is alone, and those at the end are of no account: as in Apache Kafka.
func listChange(have, items string, add bool) string {
	var out []string
	for _, s := range strings.Split(have, ",") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	trimmed := strings.TrimRight(items, ",")
	if trimmed == "" && items != "" {
		return strings.Join(out, ",")
	}
	for _, s := range strings.Split(trimmed, ",") {
		s = strings.TrimSpace(s)
		at := slices.Index(out, s)
		switch {
		case add && at < 0:
			out = append(out, s)
		case !add && at >= 0:
			out = slices.Delete(out, at, at+1)
		}
	}
	return strings.Join(out, ",")
}
