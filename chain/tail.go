package chain

import (
	"sort"

	"github.com/braidstream/braid/batch"
)

// tail is the cached end of one partition: patched batches, in the order of
// their logical offsets, each directly behind the one before but for gaps that
// the chain itself has. Guarded by Partition.mu; the bytes are immutable.
type tail struct {
	pieces []piece
	// txn is the first offset past the last batch of a transaction that was ever in it.
	txn int64
}

// piece is a run of batches that lie one behind the other in a chunk.
type piece struct {
	c        *chunk
	from, to int // bytes of c.buf
	base     int64
	next     int64   // first offset past it
	index    []entry // sparse: one per indexStep bytes at least
	span     int32   // Span.Seq
}

type entry struct {
	base int64
	pos  int // in c.buf
}

const indexStep = 4 << 10

// end is the first offset past the cached batches, -1 when empty.
func (t *tail) end() int64 {
	if len(t.pieces) == 0 {
		return -1
	}
	return t.pieces[len(t.pieces)-1].next
}

// add puts one patched batch at the end; the caller has made sure that it
// belongs there. It returns by how much the cache grew.
func (t *tail) add(c *chunk, from, to int, base, next int64, span int32) (grown int64) {
	if batch.IsTransactional(c.buf[from:to]) {
		t.txn = next
	}
	if n := len(t.pieces); n > 0 {
		p := &t.pieces[n-1]
		if p.c == c && p.to == from && p.next == base && p.span == span {
			p.to, p.next = to, next
			if from-p.index[len(p.index)-1].pos >= indexStep {
				p.index = append(p.index, entry{base, from})
			}
			return 0
		}
	}
	if c.cached.Add(1) == 1 {
		grown = c.size // a chunk is counted once
	}
	c.retain()
	t.pieces = append(t.pieces, piece{c: c, from: from, to: to, base: base, next: next, span: span,
		index: append(make([]entry, 0, 4), entry{base, from})})
	return grown
}

// addRun puts a run of patched batches at the end.
func (t *tail) addRun(c *chunk, from, to int, span int32) (grown int64) {
	it := batch.NewIter(c.buf[from:to])
	at := from
	for it.Next() {
		h := &it.Header
		grown += t.add(c, at, at+len(it.Bytes), h.BaseOffset, h.NextOffset(), span)
		at += len(it.Bytes)
	}
	return grown
}

// dropFirst takes the oldest piece away and returns by how much the cache shrank.
func (t *tail) dropFirst() (shrunk int64) {
	p := t.pieces[0]
	t.pieces[0] = piece{}
	t.pieces = t.pieces[1:]
	if p.c.cached.Add(-1) == 0 {
		shrunk = p.c.size // no piece of another partition lies in it either
	}
	p.c.drop()
	return shrunk
}

// clear drops everything.
func (t *tail) clear() (shrunk int64) {
	for len(t.pieces) > 0 {
		shrunk += t.dropFirst()
	}
	t.pieces = nil
	return shrunk
}

// find returns the batches from the one that holds offset on, at most max bytes
// of them but one whole batch, none at or past limit, out of one piece. The
// chunk has been retained for the caller. ok is false when offset is not cached
// of its span: a gap before a later span's batches may have been filled, by what
// came back with a cluster, after those were cached.
func (t *tail) find(span int32, offset, limit int64, max int) (c *chunk, run []byte, next int64, ok bool) {
	n := len(t.pieces)
	if n == 0 || offset < t.pieces[0].base || offset >= t.pieces[n-1].next {
		return nil, nil, 0, false
	}
	i := sort.Search(n, func(i int) bool { return t.pieces[i].next > offset })
	p := &t.pieces[i]
	if p.span != span {
		return nil, nil, 0, false
	}
	if run, next, ok = p.cut(offset, limit, max); !ok {
		return nil, nil, 0, false
	}
	p.c.retain()
	return p.c, run, next, true
}

// cut returns the batches from the one that holds offset on, which the piece
// does, at most max bytes of them but one whole batch, none at or past limit.
func (p *piece) cut(offset, limit int64, max int) (run []byte, next int64, ok bool) {
	pos := p.from
	if offset > p.base {
		j := sort.Search(len(p.index), func(j int) bool { return p.index[j].base > offset }) - 1
		pos = p.index[j].pos
	}
	// Walk to the batch that holds the offset.
	var h batch.Header
	for {
		var err error
		var size int
		if h, size, err = batch.Parse(p.c.buf[pos:p.to]); err != nil {
			return nil, 0, false
		}
		if h.NextOffset() > offset {
			break
		}
		pos += size
	}
	if h.BaseOffset >= limit {
		return nil, 0, false
	}
	end, next := pos+h.Size(), h.NextOffset()
	if p.next <= limit && p.to-pos <= max {
		end, next = p.to, p.next
	} else {
		// Jump by the index, then batch by batch.
		j := sort.Search(len(p.index), func(j int) bool { return p.index[j].pos-pos > max || p.index[j].base >= limit }) - 1
		if j >= 0 && p.index[j].pos > end {
			end, next = p.index[j].pos, p.index[j].base
		}
		for end < p.to {
			h, size, err := batch.Parse(p.c.buf[end:p.to])
			if err != nil || end+size-pos > max || h.BaseOffset >= limit {
				break
			}
			end, next = end+size, h.NextOffset()
		}
	}
	return p.c.buf[pos:end:end], next, true
}
