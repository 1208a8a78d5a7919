package chain

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/braidstream/braid/span"
)

// counted measures topics and counts the requests.
type counted struct {
	mu     sync.Mutex
	asked  [][]span.Topic
	inside atomic.Int32
	most   int32
	gate   chan struct{} // if set, each request waits for it
}

func (c *counted) Sizes(_ context.Context, t span.Topic) ([]int64, error) {
	return []int64{int64(t.ID[0])}, nil
}

func (c *counted) SizesOfMany(_ context.Context, topics []span.Topic) map[[16]byte][]int64 {
	in := c.inside.Add(1)
	defer c.inside.Add(-1)
	c.mu.Lock()
	c.asked = append(c.asked, topics)
	c.most = max(c.most, in)
	c.mu.Unlock()
	if c.gate != nil {
		<-c.gate
	}
	out := map[[16]byte][]int64{}
	for _, t := range topics {
		if t.ID[0] != 0 { // which cannot be measured
			out[t.ID] = []int64{int64(t.ID[0])}
		}
	}
	return out
}

func physical(ids ...byte) map[[16]byte]span.Topic {
	m := map[[16]byte]span.Topic{}
	for _, id := range ids {
		m[[16]byte{id}] = span.Topic{ID: [16]byte{id}}
	}
	return m
}

// Whatever is asked for, a cluster is asked for it once a second, in one request.
func TestSizesAreAskedForOnce(t *testing.T) {
	now := time.Unix(1, 0)
	var all sizes
	c := all.of("a")
	c.clock = func() time.Time { return now }
	if all.of("a") != c || all.of("b") == c {
		t.Fatal("clusters share what they keep, or do not keep it")
	}
	m := &counted{}
	for i, step := range []struct {
		ask     []byte
		later   time.Duration
		request []byte // empty: none
	}{
		{ask: []byte{1, 2, 3}, request: []byte{1, 2, 3}},
		{ask: []byte{1, 2, 3}},
		{ask: []byte{2, 4}, request: []byte{4}},
		{ask: []byte{1}, later: sizesKept - 1},
		{ask: []byte{1, 4}, later: 1, request: []byte{1, 4}},
		{ask: []byte{0}, request: []byte{0}},
		{ask: []byte{0}, request: []byte{0}}, // there is nothing to keep
	} {
		now = now.Add(step.later)
		before := len(m.asked)
		got := c.measure(t.Context(), m, physical(step.ask...))
		for _, id := range step.ask {
			if sizes, ok := got[[16]byte{id}]; ok != (id != 0) || ok && sizes[0] != int64(id) {
				t.Errorf("step %d: topic %d: %v", i, id, sizes)
			}
		}
		var asked []byte
		for _, topics := range m.asked[before:] {
			for _, topic := range topics {
				asked = append(asked, topic.ID[0])
			}
		}
		slices.Sort(asked)
		if !slices.Equal(asked, step.request) || len(m.asked)-before > 1 {
			t.Errorf("step %d: %d requests for %v, want one for %v", i, len(m.asked)-before, asked, step.request)
		}
	}
	// What nobody asks for any more is not kept.
	now = now.Add(time.Hour)
	c.measure(t.Context(), m, physical(9))
	if len(c.kept) != 1 {
		t.Errorf("%d topics are kept", len(c.kept))
	}
}

// One ask at a time, however many there are; who gives up leaves the line.
func TestSizesAreAskedForOneAtATime(t *testing.T) {
	var all sizes
	c := all.of("a")
	m := &counted{gate: make(chan struct{})}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { c.measure(t.Context(), m, physical(byte(i+1), 100)) })
	}
	m.gate <- struct{}{} // the first is inside
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := c.measure(gone, &counted{}, physical(50)); len(got) > 1 {
		t.Errorf("%v", got)
	}
	close(m.gate)
	wg.Wait()
	if m.most != 1 {
		t.Errorf("%d requests at a time", m.most)
	}
}
