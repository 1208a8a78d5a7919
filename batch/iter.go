package batch

import "iter"

// Iter walks a run of batches that lie one behind the other. It ends at the end
// of the run, at a batch of which only a part is there (Rest tells), or at bytes
// that are no batch of this format (Err tells).
//
//	it := batch.NewIter(run)
//	for it.Next() { use(it.Header, it.Bytes) }
//	if err := it.Err(); err != nil { … }
type Iter struct {
	Header Header // of the current batch
	Bytes  []byte // the current batch; aliases the run

	rest []byte
	err  error
}

// NewIter starts a walk over run.
func NewIter(run []byte) Iter { return Iter{rest: run} }

// Next moves to the next whole batch.
func (it *Iter) Next() bool {
	// A Fetch may cut the last batch anywhere, in its header too.
	if it.err != nil || len(it.rest) < HeaderSize {
		return false
	}
	h, size, err := Parse(it.rest)
	if err != nil {
		it.err = err
		return false
	}
	if len(it.rest) < size {
		return false
	}
	it.Header = h
	it.Bytes = it.rest[:size:size]
	it.rest = it.rest[size:]
	return true
}

// Rest is what was not walked over (yet); after the end, the partial batch.
func (it *Iter) Rest() []byte { return it.rest }

// Err is why the walk ended before the end of the run, nil for a partial batch.
func (it *Iter) Err() error { return it.err }

// Walk is Iter for range loops that care for whole batches only: it ends
// silently at anything else.
func Walk(run []byte) iter.Seq2[Header, []byte] {
	return func(yield func(Header, []byte) bool) {
		it := NewIter(run)
		for it.Next() {
			if !yield(it.Header, it.Bytes) {
				return
			}
		}
	}
}
