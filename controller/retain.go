package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// sizer is what a store that can measure its topics has besides span.Store:
// bytes by partition. Retention by size needs it; where it is missing only
// retention by time applies.
type sizer interface {
	Sizes(ctx context.Context, t span.Topic) ([]int64, error)
}

// keeper remembers between rounds of retention what need not be asked again.
type keeper struct {
	notBefore  map[partitionKey]time.Time // no record of the open span is due before
	deleted    map[partitionKey]int64     // physical starts that were asked for, by copy
	tombstones map[catalog.ID]string      // delete.retention.ms as set, by physical topic
	sizes      map[catalog.ID][]int64     // of this round, by physical topic; nil: cannot be measured
}

type partitionKey struct {
	topic     catalog.ID
	partition int32
}

// retain applies retention over whole chains, and the tombstone rule.
func (t *term) retain(ctx context.Context) error {
	k := &keeper{notBefore: map[partitionKey]time.Time{}, deleted: map[partitionKey]int64{}, tombstones: map[catalog.ID]string{}}
	for {
		s := t.o.Watcher.Snapshot()
		k.sizes = map[catalog.ID][]int64{}
		for topic := range s.AllTopics() {
			if topic.Deleting {
				continue
			}
			err := t.retainTopic(ctx, k, s, topic)
			if errors.Is(err, catalog.ErrFenced) || ctx.Err() != nil {
				return err
			}
			if err != nil {
				t.o.Logger.Debug("retention of a topic failed, tried again later", "topic", topic.Name, "err", err)
			}
		}
		if err := pause(ctx, t.o.RetentionEvery); err != nil {
			return err
		}
	}
}

func (t *term) retainTopic(ctx context.Context, k *keeper, s *catalog.Snapshot, topic *catalog.Topic) error {
	chains := s.Chains(topic.ID)
	if err := t.keepTombstones(ctx, k, s, topic, chains); err != nil {
		return err
	}
	now := time.Now()
	befores := make([]int64, len(chains))
	trims := false
	for p, ch := range chains {
		befores[p] = ch.Start
		if !isDeleted(topic.Config) {
			continue
		}
		sizes, openBySize, err := t.measure(ctx, k, topic, ch)
		if err != nil {
			return err
		}
		openBefore, err := t.openBefore(ctx, k, topic, int32(p), ch, now)
		if err != nil {
			return err
		}
		befores[p] = retained(ch, topic.Config, sizes, max(openBefore, openBySize), now)
		trims = trims || befores[p] > ch.Start
	}
	if trims {
		ref := catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
		err := t.changeChains(ctx, ref, func(p int32, ch *catalog.Chain) bool {
			if int(p) >= len(befores) || befores[p] <= ch.Start {
				return false
			}
			out, dropped := chain.Trim(ch, befores[p])
			*ch = out
			if len(dropped) > 0 {
				t.o.Logger.Info("spans are past retention", "topic", topic.Name, "partition", p, "spans", len(dropped), "start", out.Start)
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return t.deleteRecords(ctx, k, topic, chains, befores)
}

// openBefore finds by time up to where the open span's head is past retention;
// -1: nowhere, or too early to ask.
func (t *term) openBefore(ctx context.Context, k *keeper, topic *catalog.Topic, p int32, ch *catalog.Chain, now time.Time) (int64, error) {
	ms := configInt(topic.Config, "retention.ms")
	sp := chain.OpenSpan(ch)
	if ms < 0 || sp == nil {
		return -1, nil
	}
	key := partitionKey{topic.ID, p}
	limit := now.UnixMilli() - ms
	// Nothing that was appended since the span began is due by its own clock; records
	// with older stamps wait for it too, which is the safe side.
	if sp.Opened.UnixMilli() > limit || now.Before(k.notBefore[key]) {
		return -1, nil
	}
	c := &sp.Copies[0]
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return -1, err
	}
	log := st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	at, found, err := log.OffsetFor(call, limit)
	if err != nil {
		return -1, err
	}
	// Trimming by single records would write the catalog all the time: a hundredth
	// of the retention time is fine enough.
	wait := min(max(time.Duration(ms/100)*time.Millisecond, t.o.RetentionEvery), time.Hour)
	if found {
		wait = max(wait, time.Duration(min(at.Timestamp-limit, time.Hour.Milliseconds()))*time.Millisecond)
		k.notBefore[key] = now.Add(wait)
		return chain.ToLogical(c, at.Offset), nil
	}
	k.notBefore[key] = now.Add(wait)
	o, err := log.Offsets(call)
	if err != nil {
		return -1, err
	}
	return chain.ToLogical(c, o.HighWatermark), nil
}

// measure gives the bytes of a chain's spans, and up to where the open span by
// itself is past the retention size; -1 nowhere. A span that cannot be measured
// has no entry: nothing before it goes by size.
func (t *term) measure(ctx context.Context, k *keeper, topic *catalog.Topic, ch *catalog.Chain) (sizes []spanSize, openBefore int64, err error) {
	most := configInt(topic.Config, "retention.bytes")
	if most < 0 {
		return nil, -1, nil
	}
	for i := range ch.Spans {
		sp := &ch.Spans[i]
		c := &sp.Copies[0]
		list, err := t.sizesOf(ctx, k, c)
		if err != nil {
			return nil, -1, err
		}
		if int(c.Partition) < len(list) {
			sizes = append(sizes, spanSize{sp.Seq, list[c.Partition]})
		}
	}
	openBefore = -1
	if sp := chain.OpenSpan(ch); sp != nil {
		if n := sizeOf(sizes, sp.Seq); n > most {
			if openBefore, err = t.headPast(ctx, sp, n, n-most); err != nil {
				return nil, -1, err
			}
		}
	}
	return sizes, openBefore, nil
}

// sizesOf measures a physical topic once a round.
func (t *term) sizesOf(ctx context.Context, k *keeper, c *catalog.Copy) ([]int64, error) {
	if list, ok := k.sizes[c.TopicID]; ok || c.Unreadable {
		return list, nil
	}
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return nil, err
	}
	var list []int64
	if m, ok := st.(sizer); ok {
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		defer cancel()
		if list, err = m.Sizes(call, span.Topic{Name: c.Topic, ID: c.TopicID}); err != nil {
			return nil, err
		}
	}
	k.sizes[c.TopicID] = list
	return list, nil
}

// headPast spreads a log's bytes evenly over its offsets, and gives where the
// first excess bytes of it end.
func (t *term) headPast(ctx context.Context, sp *catalog.Span, size, excess int64) (int64, error) {
	c := &sp.Copies[0]
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return -1, err
	}
	log := st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	o, err := log.Offsets(call)
	if err != nil {
		return -1, err
	}
	share := float64(excess) / float64(size)
	return chain.ToLogical(c, o.Start+int64(float64(o.HighWatermark-o.Start)*share)), nil
}

// deleteRecords lets the clusters forget what lies below the chains' starts:
// retention's doing, or a client's DeleteRecords. Logs that are only compacted
// refuse it and keep everything.
func (t *term) deleteRecords(ctx context.Context, k *keeper, topic *catalog.Topic, chains []*catalog.Chain, starts []int64) error {
	if !isDeleted(topic.Config) {
		return nil
	}
	for p, ch := range chains {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if sp.Start >= starts[p] {
				break
			}
			c := &sp.Copies[0]
			if c.Unreadable {
				continue
			}
			before := chain.ToPhysical(c, starts[p])
			if !sp.IsOpen() && starts[p] > sp.End {
				before = chain.ToPhysical(c, sp.End)
			}
			key := partitionKey{c.TopicID, c.Partition}
			if before <= k.deleted[key] {
				continue
			}
			st, err := t.o.Stores.Store(c.Cluster)
			if err != nil {
				return err
			}
			log := st.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
			call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
			_, err = log.DeleteBefore(call, before)
			cancel()
			log.Release()
			if err != nil && !errors.Is(err, span.ErrGone) {
				return fmt.Errorf("partition %d: %w", p, err)
			}
			k.deleted[key] = before
		}
	}
	return nil
}

// keepTombstones applies the tombstone rule to the open copies of a compacted
// topic: a tombstone must outlive every older span that may hold its key.
func (t *term) keepTombstones(ctx context.Context, k *keeper, s *catalog.Snapshot, topic *catalog.Topic, chains []*catalog.Chain) error {
	if !isCompacted(topic.Config) {
		return nil
	}
	want := configOf(topic.Config, "delete.retention.ms")
	if holdsTombstones(chains, topic.Config) {
		want = forever
	}
	for _, p := range openTopics(chains) {
		if k.tombstones[p.TopicID] == want || s.Extend(topic.ID) != nil {
			continue
		}
		st, err := t.o.Stores.Store(p.Cluster)
		if err != nil {
			return err
		}
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		err = st.Configure(call, storeTopic(p), map[string]string{"delete.retention.ms": want})
		cancel()
		if err != nil {
			return err
		}
		k.tombstones[p.TopicID] = want
	}
	return nil
}
