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

// keeper remembers between rounds of retention what need not be asked again.
type keeper struct {
	notBefore  map[partitionKey]time.Time // no record of the open span is due before
	deleted    map[partitionKey]int64     // physical starts that were asked for, by copy
	tombstones map[catalog.ID]string      // delete.retention.ms as set, by physical topic
	sizes      map[catalog.ID][]int64     // of this round, by physical topic; nil: cannot be measured
	limits     map[catalog.ID]string      // retention.bytes as set, by physical topic
}

type partitionKey struct {
	topic     catalog.ID
	partition int32
}

// retain applies retention over whole chains, and the tombstone rule.
func (t *term) retain(ctx context.Context) error {
	k := &keeper{notBefore: map[partitionKey]time.Time{}, deleted: map[partitionKey]int64{}, tombstones: map[catalog.ID]string{}, limits: map[catalog.ID]string{}}
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
			trims = trims || chain.Below(ch, ch.Start) > 0 // by DeleteRecords, or from before the policy changed
			continue
		}
		sizes, begins, err := t.measure(ctx, k, topic, ch)
		if err != nil {
			return err
		}
		openBefore, err := t.openBefore(ctx, k, topic, int32(p), ch, now)
		if err != nil {
			return err
		}
		befores[p] = max(retained(ch, topic.Config, sizes, openBefore, now), begins)
		// A gateway that trims moves the start alone: spans may lie below it by now.
		trims = trims || befores[p] > ch.Start || chain.Below(ch, ch.Start) > 0
	}
	if trims {
		ref := catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
		err := t.changeChains(ctx, ref, func(p int32, ch *catalog.Chain) bool {
			if int(p) >= len(befores) || befores[p] <= ch.Start && chain.Below(ch, ch.Start) == 0 {
				return false
			}
			out, dropped := chain.Trim(ch, max(befores[p], ch.Start))
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
	log := copyLog(st, c)
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	// Asked first: what is appended after the other answer is not covered by it.
	o, err := log.Offsets(call)
	if err != nil {
		return -1, err
	}
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
	return chain.ToLogical(c, o.HighWatermark), nil
}

// measure gives the bytes of a chain's spans where retention by size needs them,
// and where the chain's records begin by now; -1 not asked. A span that cannot be
// measured has no entry: nothing before it goes by size.
//
// Only the store knows its segments, so the open copy has the topic's limit as its
// own and drops segments by itself, as any Kafka topic does; the chain follows.
// Since it does so only when what is left of it alone is enough, all spans before
// it are past the limit then. A sealed copy is told to keep what it has.
func (t *term) measure(ctx context.Context, k *keeper, topic *catalog.Topic, ch *catalog.Chain) (sizes []spanSize, begins int64, err error) {
	if configInt(topic.Config, "retention.bytes") < 0 {
		return nil, -1, nil
	}
	begins = -1
	for i := range ch.Spans {
		sp := &ch.Spans[i]
		c := &sp.Copies[0]
		if c.Unreadable {
			continue
		}
		if err := t.limit(ctx, k, sp, c, configOf(topic.Config, "retention.bytes")); err != nil {
			return nil, -1, err
		}
		if i == 0 || sp.IsOpen() {
			start, err := t.startOf(ctx, c)
			if err != nil {
				return nil, -1, err
			}
			if start = chain.ToLogical(c, start); start > sp.Start && (sp.IsOpen() || start <= sp.End) {
				begins = start
			}
		}
		list, err := t.sizesOf(ctx, k, c)
		if err != nil {
			return nil, -1, err
		}
		if int(c.Partition) < len(list) && list[c.Partition] >= 0 {
			sizes = append(sizes, spanSize{sp.Seq, list[c.Partition]})
		}
	}
	return sizes, begins, nil
}

// limit gives the open copy the topic's own limit, and takes it from a sealed one,
// once in a term. One that cannot be reached is asked again in the next round; a
// cluster that grants no such thing keeps what it has.
func (t *term) limit(ctx context.Context, k *keeper, sp *catalog.Span, c *catalog.Copy, most string) error {
	if !sp.IsOpen() {
		most = "-1"
	}
	if k.limits[c.TopicID] == most {
		return nil
	}
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	err = st.Configure(call, span.Topic{Name: c.Topic, ID: c.TopicID}, map[string]string{"retention.bytes": most})
	if err != nil && !errors.Is(err, span.ErrDenied) {
		return err
	}
	k.limits[c.TopicID] = most
	return nil
}

// startOf reads a copy's log start.
func (t *term) startOf(ctx context.Context, c *catalog.Copy) (int64, error) {
	st, err := t.o.Stores.Store(c.Cluster)
	if err != nil {
		return 0, err
	}
	log := copyLog(st, c)
	defer log.Release()
	call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
	defer cancel()
	o, err := log.Offsets(call)
	return o.Start, err
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
	if m, ok := st.(span.Sizer); ok {
		call, cancel := context.WithTimeout(ctx, t.driver.limits.call)
		defer cancel()
		list, err = m.Sizes(call, span.Topic{Name: c.Topic, ID: c.TopicID})
		if err != nil && !errors.Is(err, span.ErrDenied) {
			return nil, err
		}
	}
	k.sizes[c.TopicID] = list
	return list, nil
}

// deleteRecords lets the clusters forget what lies below the chains' starts:
// retention's doing, or a client's DeleteRecords. Logs that are only compacted
// refuse it and keep everything.
func (t *term) deleteRecords(ctx context.Context, k *keeper, topic *catalog.Topic, chains []*catalog.Chain, starts []int64) error {
	if isCompacted(topic.Config) && !isDeleted(topic.Config) {
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
			log := copyLog(st, c)
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
