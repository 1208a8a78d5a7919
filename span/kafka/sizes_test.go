package kafka_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/braidstream/braid/span"
)

// TestManySizesInFewRequests: up to a thousand topics are one request to each broker, and a topic
// that is gone costs the others nothing.
func TestManySizesInFewRequests(t *testing.T) {
	f := newFake(t, 2, 1, 0)
	f.others = map[[16]byte]string{}
	topics := []span.Topic{{Name: f.name, ID: f.id}, {Name: "gone", ID: [16]byte{8}}}
	for i := range 1500 {
		id := [16]byte{7}
		binary.BigEndian.PutUint32(id[4:], uint32(i))
		f.others[id] = fmt.Sprint("other-", i)
		topics = append(topics, span.Topic{Name: f.others[id], ID: id})
	}
	m, ok := span.Store(openAt(t, f.bootstrap())).(span.ManySizer)
	if !ok {
		t.Fatal("it does not measure many topics")
	}
	got := m.SizesOfMany(t.Context(), topics)
	if len(got) != len(topics)-1 {
		t.Errorf("%d topics are measured", len(got))
	}
	for id, sizes := range got {
		if len(sizes) != 2 || sizes[0] != 100 || sizes[1] != 101 {
			t.Fatalf("topic %v: %v", id, sizes)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.measured != [2]int{2, 2} {
		t.Errorf("%v requests to the brokers, want 2 to each", f.measured)
	}
}
