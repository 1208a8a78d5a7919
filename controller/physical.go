package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

const (
	// batchRoom is what a physical topic takes above the topic's own limit, which
	// the gateway enforces.
	batchRoom = 64 << 10
	forever   = "9223372036854775807"
)

// newer are configs that releases before Kafka 3.6 do not know; difference stands
// for both there.
var newer = []string{"message.timestamp.before.max.ms", "message.timestamp.after.max.ms"}

const difference = "message.timestamp.difference.max.ms"

// physicalConfig gives the configs of a topic's physical topics. All that decide
// semantics are explicit, since defaults differ between clusters and releases;
// what Braid does itself (retention by time, timestamp bounds) is switched off there.
// holdTombstones keeps tombstones as long as older spans may hold their keys.
func physicalConfig(topic map[string]string, kind catalog.ClusterKind, holdTombstones bool) map[string]string {
	out := map[string]string{
		"max.message.bytes":               strconv.FormatInt(min(configInt(topic, "max.message.bytes")+batchRoom, math.MaxInt32), 10),
		"compression.type":                "producer",
		"unclean.leader.election.enable":  "false",
		"retention.ms":                    "-1",
		"retention.bytes":                 "-1",
		"message.timestamp.before.max.ms": forever,
		"message.timestamp.after.max.ms":  forever,
	}
	for i := range topicConfigs {
		c := &topicConfigs[i]
		if !c.physical || c.local && kind != catalog.KindLocal {
			continue
		}
		_, set := topic[c.Name]
		// The engine's own segment size is smaller than Kafka's, for finer retention.
		if kind == catalog.KindLocal && !set && c.Name == "segment.bytes" {
			continue
		}
		out[c.Name] = configOf(topic, c.Name)
	}
	if _, set := topic[indexSize]; !set && kind != catalog.KindLocal {
		out[indexSize] = strconv.FormatInt(indexBytes(topic), 10)
	}
	if !isDeleted(topic) && !isCompacted(topic) {
		// Brokers before Kafka 4.2 know no policy of nothing, and refuse DeleteRecords to what deletes nothing.
		out["cleanup.policy"] = "delete"
	}
	if isDeleted(topic) {
		// Only the copy knows its segments; see measure.
		out["retention.bytes"] = configOf(topic, "retention.bytes")
	}
	if holdTombstones {
		out["delete.retention.ms"] = forever
	}
	return out
}

const (
	indexSize = "segment.index.bytes"
	// indexEntry is the larger of Kafka's two kinds of index entries, that of times.
	indexEntry = 12
	// indexSpare are entries that a segment never has.
	indexSpare = 64
	// indexAtFirst is how large the indexes of the first segments of a fresh copy are:
	// enough for 10,922 batches, and for 44 MB of small ones.
	indexAtFirst = 128 << 10
)

// indexBytes is how large the indexes of a topic's segments can get. A broker maps
// each index whole, and an append that touches one for the first time waits until the
// kernel has read ahead in it: with the default of 10 MiB up to all of that in
// zeros, for each partition, among the first appends to a fresh topic.
func indexBytes(topic map[string]string) int64 {
	entries := configInt(topic, "segment.bytes")/max(configInt(topic, "index.interval.bytes"), 1) + indexSpare
	return min(entries*indexEntry, configInt(topic, indexSize))
}

// growsIndexes tells whether the first segments of a topic's fresh copy begin with
// indexes of indexAtFirst, since producers are held up when they are first touched:
// six partitions with indexes of 3 MiB make an append wait for 16 ms, of 128 KiB for
// 1 ms. Later segments get what indexBytes says, once the certificate has been issued
// for the second time: with small indexes for good, large copies would be of so many
// segments that a broker runs out of memory maps.
func growsIndexes(topic map[string]string, c *catalog.Cluster) bool {
	_, set := topic[indexSize]
	return !set && c.Kind != catalog.KindLocal && c.CanSeal && indexBytes(topic) > indexAtFirst
}

// createPhysical makes a physical topic; a topic of this very name, which only a
// former try of ours can have made, is taken.
func createPhysical(ctx context.Context, st span.Store, spec span.Spec) (span.Topic, error) {
	t, err := st.Create(ctx, spec)
	if isRejected(err, wire.InvalidConfig) {
		older := spec
		older.Config = maps.Clone(spec.Config)
		for _, k := range newer {
			delete(older.Config, k)
		}
		older.Config[difference] = forever
		t, err = st.Create(ctx, older)
	}
	if !errors.Is(err, span.ErrExists) {
		return t, err
	}
	list, lerr := st.Topics(ctx, spec.Name)
	if lerr != nil {
		return t, lerr
	}
	for _, t := range list {
		if t.Name == spec.Name {
			// A former try may have been cut off before every partition had a leader,
			// and says nothing of how many there are: growing it to what we want is both.
			if err := st.AddPartitions(ctx, t, spec.Partitions); err != nil {
				return t, fmt.Errorf("take over %s: %w", spec.Name, err)
			}
			return t, nil
		}
	}
	return t, err
}

func isRejected(err error, code wire.Code) bool {
	var r *span.RejectedError
	return errors.As(err, &r) && r.Code == code
}

func physicalOf(cluster string, t span.Topic, partitions int32) catalog.PhysicalTopic {
	return catalog.PhysicalTopic{Cluster: cluster, Topic: t.Name, TopicID: t.ID, Partitions: partitions}
}

func storeTopic(p catalog.PhysicalTopic) span.Topic {
	return span.Topic{Name: p.Topic, ID: p.TopicID}
}

// copyLog is the log of a copy, for the caller to release.
func copyLog(st span.Store, c *catalog.Copy) span.Log {
	return st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
}

// probe asks a cluster how a physical topic is, by its first partition.
func (t *term) probe(ctx context.Context, st span.Store, p catalog.PhysicalTopic) error {
	ctx, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	log := st.Log(storeTopic(p), 0)
	defer log.Release()
	return log.Probe(ctx)
}

// openTopics lists the distinct physical topics that hold the open spans.
func openTopics(chains []*catalog.Chain) []catalog.PhysicalTopic {
	var out []catalog.PhysicalTopic
	for _, ch := range chains {
		n := len(ch.Spans)
		if n == 0 || !ch.Spans[n-1].IsOpen() {
			continue
		}
		for i := range ch.Spans[n-1].Copies {
			c := &ch.Spans[n-1].Copies[i]
			at := -1
			for j := range out {
				if out[j].Cluster == c.Cluster && out[j].TopicID == c.TopicID && out[j].Topic == c.Topic {
					at = j
				}
			}
			if at < 0 {
				out = append(out, catalog.PhysicalTopic{Cluster: c.Cluster, Topic: c.Topic, TopicID: c.TopicID})
				at = len(out) - 1
			}
			out[at].Partitions = max(out[at].Partitions, c.Partition+1)
		}
	}
	return out
}
