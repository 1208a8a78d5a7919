package chain

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid/fair"
)

// What nobody reads any more gives way first; then the tenant that has most, however old
// what the others have is.
func TestTheLargestShareOfTheCacheGivesWay(t *testing.T) {
	now := time.Now()
	c := &cache{limit: 1000, metrics: NewMetrics(nil), shares: map[string]*cacheShare{}, poke: make(chan struct{}, 1)}
	cached := func(tenant string, bytes int64, used time.Time) *Partition {
		p := &Partition{tenant: tenant}
		p.lastUse.Store(used.UnixNano())
		c.grow(p, bytes)
		return p
	}
	for range 3 {
		cached("quiet", 10, now.Add(-30*time.Second))
	}
	old := cached("noisy", 300, now.Add(-2*time.Second))
	recent := cached("noisy", 300, now)
	for range 20 {
		if v := c.victim(now); v != old {
			t.Fatalf("%s gives way", v.tenant)
		}
	}
	c.shrink(old, 300)
	c.leave(old)
	if v := c.victim(now); v != recent {
		t.Errorf("%s gives way", v.tenant)
	}
	unread := cached("gone", 10, now.Add(-2*readerGone))
	if v := c.victim(now); v != unread {
		t.Errorf("%s gives way before what nobody reads", v.tenant)
	}
	if of := c.of(); of["quiet"] != 30 || of["noisy"] != 300 || of["gone"] != 10 {
		t.Errorf("%v", of)
	}
	c.shrink(unread, 10)
	c.leave(unread)
	if of := c.of(); len(of) != 2 {
		t.Errorf("%v", of)
	}
}

// The shelf, too, takes from the tenant that has most of it.
func TestTheLargestShareOfTheShelfGivesWay(t *testing.T) {
	s := &shelf{limit: 100, keep: time.Hour}
	defer s.close()
	put := func(tenant string, size int64) (old []*shelved) {
		p := &Partition{tenant: tenant}
		run := &shelved{piece: piece{c: &chunk{size: size, class: -1}}, p: p, born: time.Now()}
		run.c.refs.Store(1)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.put(s.part(p), run)
	}
	put("quiet", 10)
	for range 4 {
		if old := put("noisy", 20); len(old) != 0 {
			t.Fatalf("%d give way while there is room", len(old))
		}
	}
	if old := put("quiet", 20); len(old) != 1 || old[0].p.tenant != "noisy" {
		t.Errorf("%d give way", len(old))
	}
	if s.bytes != 90 || s.by["quiet"] != 30 || s.by["noisy"] != 60 || len(s.runs) != 5 {
		t.Errorf("%d bytes, %v, %d runs", s.bytes, s.by, len(s.runs))
	}
}

// A tenant whose appends are held leaves room for those of others, and one that is alone has
// all of it.
func TestHeldAppendsShareTheirRoom(t *testing.T) {
	l := &Logs{metrics: NewMetrics(nil), serving: map[string]int{}}
	l.room = fair.NewRoom(1000, l.several)
	noisy, quiet := &Partition{l: l, tenant: "noisy"}, &Partition{l: l, tenant: "quiet"}
	l.serves("noisy", 1)
	l.serves("braid", 1) // the system's own
	hold := func(p *Partition) (n int) {
		for l.takeHold(p, 100) {
			n++
		}
		return n
	}
	if n := hold(noisy); n != 10 {
		t.Fatalf("alone: %d", n)
	}
	for range 10 {
		l.putHold(noisy, 100)
	}
	l.serves("quiet", 1)
	if n := hold(noisy); n != 5 {
		t.Errorf("beside another: %d", n)
	}
	l.forceHold(noisy, 100)
	if n := hold(quiet); n != 2 {
		t.Errorf("the other: %d", n)
	}
	if of := fmt.Sprint(l.room.Of()); of != "map[noisy:600 quiet:200]" {
		t.Error(of)
	}
	l.serves("quiet", -1)
	if l.several() {
		t.Error("one is left")
	}
	l.cache.shares = map[string]*cacheShare{"quiet": {bytes: 5}}
	reg := prometheus.NewRegistry()
	reg.MustRegister(l)
	got, err := reg.Gather()
	if err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}
