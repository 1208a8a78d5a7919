package chain

import (
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
)

// run is what a read of n batches from base on brought; released counts how often it was given back.
func run(t *testing.T, base int64, n int, txn bool, released *int) ReadResult {
	t.Helper()
	res := ReadResult{Release: func() { *released++ }}
	for i := range n {
		b := batch.NewBuilder()
		if txn {
			b = b.Producer(7, 0, int32(i)).Transactional()
		}
		out, err := b.Add(batch.Record{Timestamp: 1, Value: make([]byte, 3000)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		batch.SetBaseOffset(out, base+int64(i))
		res.Batches = append(res.Batches, out...)
	}
	return res
}

func newShelf() *shelf { return &shelf{limit: 64 << 10, keep: time.Hour} }

func TestWhoComesWhileOneReadsIsGivenTheSame(t *testing.T) {
	s, p, open := newShelf(), &Partition{}, &catalog.Span{Seq: 3, End: -1}
	defer s.close()
	own, _ := s.begin(p, 3, 100, true)
	_, other := s.begin(p, 3, 100, true)
	if own == nil || other != own {
		t.Fatalf("the second reads by itself")
	}
	if apart, _ := s.begin(p, 4, 100, true); apart == nil {
		t.Fatal("a read of another span is waited for")
	}
	if again, _ := s.begin(p, 3, 100, false); again == nil {
		t.Fatal("who waited already waits again")
	}
	released := 0
	res := run(t, 100, 4, false, &released)
	size := len(res.Batches)
	s.end(p, own, &res, size, 1<<20)
	<-own.done
	c, b, ok := s.find(p, open, 101, -1, 1<<20)
	if !ok || batch.BaseOffset(b) != 101 || len(b) != size/4*3 {
		t.Fatalf("found %v, %d bytes", ok, len(b))
	}
	res.Release()
	s.close()
	if released != 0 {
		t.Fatal("given back while a reader has it")
	}
	c.drop()
	if released != 1 {
		t.Fatalf("given back %d times", released)
	}
}

func TestWhatOneReadsAloneIsNotKept(t *testing.T) {
	s, p := newShelf(), &Partition{}
	defer s.close()
	released := 0
	for i := range int64(20) {
		own, _ := s.begin(p, 0, 4*i, true)
		res := run(t, 4*i, 4, false, &released)
		s.end(p, own, &res, len(res.Batches), 1<<20)
		res.Release()
	}
	if released != 20 || s.bytes != 0 {
		t.Fatalf("%d runs of 20 given back, %d bytes kept", released, s.bytes)
	}
}

func TestShelfIsBounded(t *testing.T) {
	s, p := newShelf(), &Partition{}
	released := 0
	for i := range int64(20) {
		for range 2 { // two who follow each other
			own, _ := s.begin(p, 0, 4*i, false)
			res := run(t, 4*i, 4, false, &released)
			s.end(p, own, &res, len(res.Batches), 1<<20)
			res.Release()
			if s.bytes > s.limit {
				t.Fatalf("%d bytes kept, bound %d", s.bytes, s.limit)
			}
		}
	}
	if s.bytes == 0 {
		t.Fatal("nothing is kept")
	}
	own, _ := s.begin(p, 0, 0, false)
	res := run(t, 0, 4, false, &released)
	s.end(p, own, &res, 1<<20, 1<<20)
	res.Release()
	s.close()
	if released != 41 || s.bytes != 0 {
		t.Fatalf("%d runs of 41 given back, %d bytes kept", released, s.bytes)
	}
}

func TestWhatIsSharedFitsTheChainAndTheReader(t *testing.T) {
	for _, c := range []struct {
		name string
		txn  bool
		span catalog.Span
		lso  int64
		want bool
	}{
		{"open", false, catalog.Span{Seq: 1, End: -1}, -1, true},
		{"sealed behind it", false, catalog.Span{Seq: 1, End: 14}, -1, true},
		{"ended within it", false, catalog.Span{Seq: 1, End: 13}, -1, false},
		{"another span", false, catalog.Span{Seq: 2, End: -1}, -1, false},
		{"a gap within it", false, catalog.Span{Seq: 1, End: 14, Copies: []catalog.Copy{{Skip: []catalog.Gap{{From: 12, To: 13}}}}}, -1, false},
		{"stable", false, catalog.Span{Seq: 1, End: -1}, 14, true},
		{"not all stable", false, catalog.Span{Seq: 1, End: -1}, 13, false},
		{"of transactions, for all", true, catalog.Span{Seq: 1, End: -1}, -1, true},
		{"of transactions, committed only", true, catalog.Span{Seq: 1, End: -1}, 14, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, p, released := newShelf(), &Partition{}, 0
			own, _ := s.begin(p, 1, 10, true)
			own.repeat = true
			res := run(t, 10, 4, c.txn, &released)
			s.end(p, own, &res, 0, 1<<20)
			res.Release()
			got, _, ok := s.find(p, &c.span, 10, c.lso, 1<<20)
			if ok != c.want {
				t.Fatalf("found %v", ok)
			}
			if ok {
				got.drop()
			}
			s.keep = 0
			s.sweep()
			if released != 1 || len(s.parts) > 0 {
				t.Fatalf("what is old is kept: given back %d times, %d partitions", released, len(s.parts))
			}
		})
	}
}

// A run that was read with a small limit is no answer to who may have more.
func TestWhoAsksForMoreIsNotServedShort(t *testing.T) {
	s, p, open := newShelf(), &Partition{}, &catalog.Span{Seq: 0, End: -1}
	defer s.close()
	released := 0
	read := func(n, max int) {
		t.Helper()
		for range 2 { // the second is asked for again, and kept
			own, _ := s.begin(p, 0, 100, false)
			res := run(t, 100, n, false, &released)
			s.end(p, own, &res, len(res.Batches), max)
			res.Release()
		}
	}
	read(2, 8000)
	if c, b, ok := s.find(p, open, 100, -1, 8000); !ok || len(b) < 2*3000 {
		t.Fatalf("found %v, %d bytes", ok, len(b))
	} else {
		c.drop()
	}
	if _, b, ok := s.find(p, open, 100, -1, 16000); ok {
		t.Fatalf("%d bytes for one who asks for 16000", len(b))
	}
	read(5, 16000)
	if c, b, ok := s.find(p, open, 100, -1, 16000); !ok || len(b) < 5*3000 {
		t.Fatalf("found %v, %d bytes", ok, len(b))
	} else {
		c.drop()
	}
}
