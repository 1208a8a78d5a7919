package catalog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// foldFrom is how many last words of runs lie on a span before they are folded:
	// each folding writes the sum anew.
	foldFrom = 3
	// foldMost bounds how many are folded at once: they are read whole, and compared
	// and deleted in one transaction.
	foldMost = 48
)

// AckSpan is a span that reports are kept on, as [Catalog.WalkAckReports] finds it.
type AckSpan struct {
	Topic     ID
	Partition int32
	Span      int32 // Span.Seq

	prefix string
	last   []string // keys of runs' last words, at most foldMost
}

// Foldable tells whether there are so many last words of runs that they are to be folded.
func (s *AckSpan) Foldable() bool { return len(s.last) >= foldFrom }

// WalkAckReports calls f for each span that reports are kept on. It reads keys only,
// page by page: what is written meanwhile may be missed.
func (c *Catalog) WalkAckReports(ctx context.Context, f func(AckSpan) error) error {
	const what = "walk acknowledgement reports"
	from, end := ackRoot, clientv3.GetPrefixRangeEnd(ackRoot)
	var at AckSpan
	flush := func() error {
		if at.prefix == "" {
			return nil
		}
		return f(at)
	}
	for {
		r, err := c.getRange(ctx, what, from, []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(loadPage), clientv3.WithKeysOnly()})
		if err != nil {
			return err
		}
		for _, kv := range r.Kvs {
			key := string(kv.Key)
			if at.prefix == "" || !strings.HasPrefix(key, at.prefix) {
				next, ok := parseAckKey(key)
				if !ok {
					continue // of a later release
				}
				if err := flush(); err != nil {
					return err
				}
				at = next
			}
			if strings.HasSuffix(key, ackLast) && len(at.last) < foldMost {
				at.last = append(at.last, key)
			}
		}
		if !r.More || len(r.Kvs) == 0 {
			return flush()
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// parseAckKey gives the span that a report's key belongs to.
func parseAckKey(key string) (AckSpan, bool) {
	part := strings.SplitN(strings.TrimPrefix(key, ackRoot), "/", 4)
	if len(part) < 4 {
		return AckSpan{}, false
	}
	s := AckSpan{prefix: key[:len(key)-len(part[3])]}
	partition, err1 := strconv.ParseInt(part[1], 10, 32)
	seq, err2 := strconv.ParseInt(part[2], 10, 32)
	if s.Topic.UnmarshalText([]byte(part[0])) != nil || err1 != nil || err2 != nil || partition < 0 || seq < 0 {
		return AckSpan{}, false
	}
	s.Partition, s.Span = int32(partition), int32(seq)
	return s, true
}

// FoldAckReports replaces last words of runs on a span by their sum, which those of later
// runs are folded into in turn: so what a span has of them stays bounded, however many
// runs there were. One transaction compares the revisions of all that was read, writes the sum and
// deletes what it holds, so whoever reads the reports sees each of them once, before and
// after; of two that fold at the same time one does.
func (c *Catalog) FoldAckReports(ctx context.Context, s AckSpan, fence Fence) error {
	f, err := c.readFold(ctx, s)
	if err != nil || len(f.keys) == 0 {
		return err
	}
	return c.writeFold(ctx, f, fence)
}

// fold is a folding that was read and is to be written.
type fold struct {
	sum       AckReport
	into      string // key of the sum
	at        int64  // its revision, 0: there is none yet
	keys      []string
	revisions []int64 // of keys
}

func (c *Catalog) readFold(ctx context.Context, s AckSpan) (fold, error) {
	const what = "fold acknowledgement reports"
	f := fold{into: s.prefix + ackFolded}
	reads := []clientv3.Op{clientv3.OpGet(f.into)}
	for _, key := range s.last {
		reads = append(reads, clientv3.OpGet(key))
	}
	r, err := c.txn(ctx, what, nil, reads, nil)
	if err != nil {
		return f, err
	}
	for i, resp := range r.Responses {
		for _, kv := range resp.GetResponseRange().Kvs {
			var rep AckReport
			if err := decode(kv.Value, &rep); err != nil {
				return f, fmt.Errorf("%s: %w", what, err)
			}
			switch {
			case i == 0 && !rep.foldable():
				return fold{}, nil // a later release's: not ours to add to
			case i == 0:
				f.sum, f.at = rep, kv.ModRevision
				continue
			case !rep.foldable():
				continue
			case f.at == 0 && len(f.keys) == 0:
				f.sum = AckReport{Node: rep.Node, Last: true, Partition: s.Partition, Span: s.Span, Digest: &AckDigest{}, Next: -1}
			}
			f.sum.fold(&rep)
			f.keys, f.revisions = append(f.keys, string(kv.Key)), append(f.revisions, kv.ModRevision)
		}
	}
	return f, nil
}

// writeFold does what was read, unless something of it has changed.
func (c *Catalog) writeFold(ctx context.Context, f fold, fence Fence) error {
	const what = "fold acknowledgement reports"
	value, err := encode(&f.sum)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	cmps := append(fence.guard(nil), clientv3.Compare(clientv3.ModRevision(f.into), "=", f.at))
	ops := []clientv3.Op{clientv3.OpPut(f.into, value)}
	for i, key := range f.keys {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(key), "=", f.revisions[i]))
		ops = append(ops, clientv3.OpDelete(key))
	}
	r, err := c.txn(ctx, what, cmps, ops, fence.probe(nil))
	if err != nil || r.Succeeded {
		return err
	}
	if err := fence.check(r); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, ErrConflict)
}

// foldable tells whether nothing of a report would be lost in a sum. A digest that is missing or of
// a later release does not say what its records were: such a report stays as it is.
func (r *AckReport) foldable() bool {
	if !r.Last || r.Digest == nil {
		return false
	}
	var n int64
	for i := range r.Digest.Chunks {
		n += r.Digest.Chunks[i].Records
	}
	return n == r.Records
}

// fold adds another report on the same span.
func (r *AckReport) fold(o *AckReport) {
	if !slices.Contains(r.Nodes, o.Node) && len(r.Nodes) < maxTail {
		r.Nodes = append(r.Nodes, o.Node)
	}
	r.Records += o.Records
	r.Batches += o.Batches
	r.Markers += o.Markers
	r.Unknown += o.Unknown
	r.Next = max(r.Next, o.Next)
	r.LastAck = max(r.LastAck, o.LastAck)
	if o.FirstAck > 0 {
		r.Idle = o.Idle && (r.FirstAck == 0 || r.Idle)
	}
	if r.FirstAck == 0 || o.FirstAck > 0 && o.FirstAck < r.FirstAck {
		r.FirstAck = o.FirstAck
	}
	if r.Asked == 0 || o.Asked > 0 && o.Asked < r.Asked {
		r.Asked = o.Asked
	}
	r.Digest.Merge(o.Digest)
	r.Tail = append(r.Tail, o.Tail...)
	slices.SortStableFunc(r.Tail, func(a, b AckedBatch) int { return cmp.Compare(a.Offset, b.Offset) })
	r.Tail = r.Tail[max(0, len(r.Tail)-maxTail):]
	r.InDoubt = append(r.InDoubt, o.InDoubt...)
	r.InDoubt = r.InDoubt[max(0, len(r.InDoubt)-maxTail):]
}
