package controller

import (
	"cmp"
	"slices"
	"time"

	"github.com/braidstream/braid/catalog"
)

// spanSize is what retention knows of one span's bytes: what its copy was measured
// to hold.
type spanSize struct {
	seq   int32
	bytes int64
}

// retained decides up to which offset a chain may be trimmed: spans that ended
// before the retention time, and from the head whatever is beyond the retention
// size. Only whole sealed spans go; the open span's head is cut by openBefore,
// which the caller found by time in its copy (-1: nothing). A compacted topic that
// does not delete keeps everything.
func retained(ch *catalog.Chain, config map[string]string, sizes []spanSize, openBefore int64, now time.Time) int64 {
	before := ch.Start
	if !isDeleted(config) {
		return before
	}
	if ms := configInt(config, "retention.ms"); ms >= 0 {
		limit := now.UnixMilli() - ms
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if sp.IsOpen() {
				before = max(before, openBefore)
				break
			}
			if spanTime(sp) >= limit {
				break
			}
			before = max(before, sp.End)
		}
	}
	if most := configInt(config, "retention.bytes"); most >= 0 {
		var total int64
		for _, s := range sizes {
			total += s.bytes
		}
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if sp.IsOpen() {
				break
			}
			n := sizeOf(sizes, sp.Seq)
			if n < 0 || total-n < most {
				break // all that is left after it must still reach the limit
			}
			total -= n
			before = max(before, sp.End)
		}
	}
	return before
}

// spanTime is when the youngest record of a sealed span was stamped, by its seal
// if no stamp is known.
func spanTime(sp *catalog.Span) int64 {
	if sp.MaxTimestamp >= 0 {
		return sp.MaxTimestamp
	}
	return sp.SealedAt.UnixMilli()
}

func sizeOf(sizes []spanSize, seq int32) int64 {
	for _, s := range sizes {
		if s.seq == seq {
			return s.bytes
		}
	}
	return -1
}

// keptOn tells what of a topic's sealed records are on a cluster, and when
// retention by time will have let the last of them go.
func keptOn(t *catalog.Topic, chains []*catalog.Chain, cluster string) (Kept, bool) {
	k := Kept{Topic: catalog.TopicRef{Tenant: t.Tenant, Name: t.Name, ID: t.ID}}
	ms := configInt(t.Config, "retention.ms")
	bounded := ms >= 0 && isDeleted(t.Config)
	for _, ch := range chains {
		for i := range ch.Spans {
			sp := &ch.Spans[i]
			if sp.IsOpen() || !slices.ContainsFunc(sp.Copies, func(c catalog.Copy) bool { return c.Cluster == cluster && !c.Gone }) {
				continue
			}
			k.Spans++
			if bounded {
				if until := time.UnixMilli(spanTime(sp) + ms).UTC(); until.After(k.Until) {
					k.Until = until
				}
			}
		}
	}
	return k, k.Spans > 0
}

func sortKept(list []Kept) {
	slices.SortFunc(list, func(a, b Kept) int {
		return cmp.Or(cmp.Compare(a.Topic.Tenant, b.Topic.Tenant), cmp.Compare(a.Topic.Name, b.Topic.Name))
	})
}
