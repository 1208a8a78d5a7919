package controller

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
)

// A local cluster whose log has lost bytes can be left: the topic moves with all that is whole, and offsets that
// may have been acknowledged are given to nobody else.
func TestMoveFromLogWithHole(t *testing.T) {
	t.Parallel()
	f, es := localFleet(t, "a", "b")
	root := t.TempDir()
	open := func(dir string) *local.Store {
		s, err := local.Open(local.Options{Dir: filepath.Join(root, dir), Name: "a", LowSpace: -1, MinSpace: -1, Logger: logger()})
		f.check(err)
		t.Cleanup(func() { f.check(s.Close()) })
		return s
	}
	a := open("a")
	es["a"] = a
	topic := f.topic("orders", 2, "a", nil)
	var last []byte
	for seq := range int32(6) {
		last = oneBatch(1<<40, 0, seq/2, 1, time.Now(), "v")
		c := f.chain(topic, int(seq%2)).Spans[0].Copies[0]
		log := a.Log(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
		done := make(chan error, 1)
		log.Append(&span.Append{Batch: last, Done: func(x *span.Append) { done <- x.Err }})
		f.check(<-done)
		log.Release()
	}
	// As a process that is killed leaves it, with a bit of the last record flipped.
	f.check(os.CopyFS(filepath.Join(root, "killed"), os.DirFS(filepath.Join(root, "a"))))
	files, err := filepath.Glob(filepath.Join(root, "killed", "log", "*.log"))
	f.check(err)
	flipped := false
	for _, name := range files {
		b, err := os.ReadFile(name)
		f.check(err)
		if at := bytes.LastIndex(b, last[61:]); at >= 0 {
			b[at+len(last[61:])-1] ^= 1
			f.check(os.WriteFile(name, b, 0o600))
			flipped = true
		}
	}
	if !flipped {
		t.Fatalf("the last record is not in %v", files)
	}
	es["a"] = open("killed")
	f.controller(func(o *Options) { o.Stores = es })
	op := f.done(f.move("b", "orders"))
	if op.State != catalog.OpDone {
		t.Fatalf("%+v", op)
	}
	for p, whole := range []int64{3, 2} {
		ch := f.chain(topic, p)
		if len(ch.Spans) != 2 || ch.Spans[0].End != whole || ch.Spans[1].Start != whole+chain.UnknownRoom || ch.Spans[0].Copies[0].Unreadable {
			t.Errorf("partition %d: %+v", p, ch.Spans)
		}
		storesOf(f, es, func() {
			if have := f.records(topic, p); int64(len(have)) != whole {
				t.Errorf("partition %d: %v", p, have)
			}
		})
	}
	for _, p := range f.certificate(topic, op.ID).Partitions {
		if p.Start != p.End+chain.UnknownRoom {
			t.Errorf("certificate: %+v", p)
		}
	}
}
