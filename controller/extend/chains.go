package extend

import (
	"fmt"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// Begin makes the state of a new extend of a topic onto target. fresh is the
// name of the physical topic to be made; it must never have been used.
func Begin(op string, t *catalog.Topic, old []catalog.PhysicalTopic, target, fresh string, kind catalog.OpKind, mode catalog.Mode, at time.Time) catalog.Extend {
	return catalog.Extend{
		Op:            op,
		Topic:         catalog.TopicRef{Tenant: t.Tenant, Name: t.Name, ID: t.ID},
		Step:          catalog.StepPrepare,
		Mode:          mode,
		Kind:          kind,
		Target:        target,
		Old:           old,
		New:           catalog.PhysicalTopic{Cluster: target, Topic: fresh, Partitions: t.Partitions},
		TopicRevision: t.Revision,
		Started:       at,
	}
}

// Progress counts the chains that are and that are not on the fresh topic.
func Progress(pages []catalog.Page, fresh catalog.ID) (moved, left int) {
	for i := range pages {
		for j := range pages[i].Chains {
			if !fresh.IsZero() && chain.Extended(&pages[i].Chains[j], fresh) {
				moved++
			} else {
				left++
			}
		}
	}
	return moved, left
}

// OldIndex finds which of the old physical topics holds a chain's open span; -1
// if none does.
func OldIndex(e *catalog.Extend, ch *catalog.Chain) int {
	sp := chain.OpenSpan(ch)
	if sp == nil {
		return -1
	}
	for i := range e.Old {
		for j := range sp.Copies {
			if sp.Copies[j].TopicID == e.Old[i].TopicID && sp.Copies[j].Cluster == e.Old[i].Cluster {
				return i
			}
		}
	}
	return -1
}

// PhysicalEnd is where one physical partition ended.
type PhysicalEnd struct {
	End          int64
	MaxTimestamp int64 // -1 none
	// Lossy: see [span.End].
	Lossy bool
}

// SealedEnd describes the end of a partition's open span that ended physically at end.
func SealedEnd(e *catalog.Extend, partition int32, ch *catalog.Chain, end PhysicalEnd) (catalog.SealedEnd, error) {
	sp := chain.OpenSpan(ch)
	old := OldIndex(e, ch)
	if sp == nil || old < 0 {
		return catalog.SealedEnd{}, fmt.Errorf("partition %d is not on a physical topic that is sealed", partition)
	}
	c := copyOn(sp, e.Old[old])
	logical := max(chain.ToLogical(c, end.End), sp.Start)
	x := catalog.SealedEnd{Partition: partition, Old: old, At: c.Partition, Span: sp.Seq, Start: sp.Start,
		Physical: end.End, End: logical, Delta: logical - end.End, MaxTimestamp: end.MaxTimestamp, Next: logical}
	if e.Unreadable {
		x.Next = logical + e.Room
	} else if end.Lossy {
		x.Next = logical + chain.UnknownRoom
	}
	return x, nil
}

// Ended describes the same of a partition that is committed already, from its
// chain; a span that was empty has vanished and leaves only its place.
func Ended(e *catalog.Extend, partition int32, ch *catalog.Chain) catalog.SealedEnd {
	open := chain.OpenSpan(ch)
	x := catalog.SealedEnd{Partition: partition, Old: -1, MaxTimestamp: -1, Span: -1, Producers: ch.Sealed}
	if open == nil {
		return x
	}
	x.Start, x.End, x.Next = open.Start, open.Start, open.Start
	if len(ch.Spans) < 2 {
		return x
	}
	sp := &ch.Spans[len(ch.Spans)-2]
	for i := range e.Old {
		if c := copyOn(sp, e.Old[i]); c != nil {
			end := chain.ToPhysical(c, sp.End)
			return catalog.SealedEnd{Partition: partition, Old: i, At: c.Partition, Span: sp.Seq, Start: sp.Start, Physical: end,
				End: sp.End, Next: open.Start, Delta: sp.End - end, MaxTimestamp: sp.MaxTimestamp, Producers: sp.Producers, Skip: c.Skip, Reported: sp.Reported}
		}
	}
	return x
}

func copyOn(sp *catalog.Span, on catalog.PhysicalTopic) *catalog.Copy {
	for i := range sp.Copies {
		if sp.Copies[i].TopicID == on.TopicID && sp.Copies[i].Cluster == on.Cluster {
			return &sp.Copies[i]
		}
	}
	return nil
}

// Chain gives a partition's chain after the commit. Where end.Next lies past
// end.End records may have been lost: room is left for them.
func Chain(e *catalog.Extend, ch *catalog.Chain, end catalog.SealedEnd, at time.Time) (catalog.Chain, error) {
	x := chain.Extension{
		End:          end.End,
		MaxTimestamp: end.MaxTimestamp,
		Producers:    end.Producers,
		To:           catalog.Copy{Cluster: e.New.Cluster, Topic: e.New.Topic, TopicID: e.New.TopicID, Partition: end.Partition},
		At:           at,
	}
	if end.Next > end.End {
		x.Lossy, x.Room, x.Unreadable, x.Skip, x.Reported = true, end.Next-end.End, e.Unreadable, end.Skip, end.Reported
	}
	out, err := chain.Extend(ch, x)
	if err != nil {
		return out, err
	}
	// The state is cumulative: only the last one is ever asked, and a state for
	// every span would fill the catalog. The slice is Extend's own.
	for i := range out.Spans {
		if out.Spans[i].Producers != out.Sealed {
			out.Spans[i].Producers = ""
		}
	}
	return out, nil
}

// Copy is the sealed copy of a partition, for mapping its offsets.
func Copy(e *catalog.Extend, ch *catalog.Chain) *catalog.Copy {
	sp, old := chain.OpenSpan(ch), OldIndex(e, ch)
	if sp == nil || old < 0 {
		return nil
	}
	return copyOn(sp, e.Old[old])
}
