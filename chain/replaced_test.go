package chain_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
)

// replacedStores give another store of each cluster from a moment on; the former one is closed by then.
type replacedStores struct {
	chain.Stores

	mu  sync.Mutex
	now *closingStore
}

func (r *replacedStores) Store(cluster string) (span.Store, error) {
	st, err := r.Stores.Store(cluster)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		r.now = &closingStore{Store: st, closed: make(chan struct{})}
	}
	return r.now, nil
}

func (r *replacedStores) replace() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.now.closed)
	r.now = nil
}

type closingStore struct {
	span.Store
	closed chan struct{}
}

func (s *closingStore) Log(t span.Topic, partition int32) span.Log {
	return &closingLog{s.Store.Log(t, partition), s.closed}
}

type closingLog struct {
	span.Log
	closed chan struct{}
}

func (l *closingLog) Append(a *span.Append) {
	select {
	case <-l.closed:
		a.BaseOffset, a.Err = -1, fmt.Errorf("store is closed: %w", span.ErrUnavailable)
		go a.Done(a) // from a goroutine of the store's
	default:
		l.Log.Append(a)
	}
}

// The process that holds a cluster comes back at another address, and its store is replaced. A partition that had
// nothing under way meanwhile goes on with the new one: the former one will refuse whatever comes for ever.
func TestAppendsGoOnWithTheStoreThatReplacedAnother(t *testing.T) {
	w := newWorld(t, "a")
	stores := &replacedStores{}
	g := w.gateway(func(o *chain.Options) { stores.Stores, o.Stores = o.Stores, stores })
	g.put("before")
	stores.replace()
	if a := g.send("meanwhile", 1, -1, -1, -1).wait(); a.Err != nil && !errors.Is(a.Err, chain.ErrUnavailable) {
		t.Fatal(a.Err)
	}
	g.put("after")
	if got := values(g.readAll(0)); !slices.Equal(got, []string{"before-0", "after-0"}) {
		t.Errorf("%q", got)
	}
}
