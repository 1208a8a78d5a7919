package catalog

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"
)

// lastWord is what run number i of a node saw of a span: n batches, among those of others.
func lastWord(i, n int) AckReport {
	r := AckReport{Node: int32(1 + i%3), Run: fmt.Sprintf("run%d", i), Last: true, Digest: &AckDigest{}, Unknown: 1, Markers: 2, LastAck: int64(1000 + i), Next: -1}
	for j := range n {
		at := int64(1000*j + i)
		r.Digest.Add(at, 1, uint32(at))
		r.Records++
		r.Batches++
		r.Tail = append(r.Tail, AckedBatch{Offset: at, Records: 1, CRC: uint32(at)})
		r.Next = at + 1
	}
	r.InDoubt = []AckedBatch{{Offset: -1, Records: 1, CRC: uint32(i)}}
	return r
}

// total is what a certificate makes of reports.
type total struct {
	Records, Batches, Markers, Unknown, Next, LastAck int64
	Digest                                            AckDigest
}

func totalOf(reports []AckReport) (t total) {
	for i := range reports {
		r := &reports[i]
		t.Records += r.Records
		t.Batches += r.Batches
		t.Markers += r.Markers
		t.Unknown += r.Unknown
		t.Next = max(t.Next, r.Next)
		t.LastAck = max(t.LastAck, r.LastAck)
		if r.Digest != nil {
			t.Digest.Merge(r.Digest)
		}
	}
	return t
}

func spansOf(t *testing.T, c *Catalog) (out []AckSpan) {
	t.Helper()
	if err := c.WalkAckReports(t.Context(), func(s AckSpan) error {
		out = append(out, s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// bytesOf is what a topic's reports take.
func bytesOf(t *testing.T, c *Catalog, id ID) (n int) {
	t.Helper()
	items, _, err := c.list(t.Context(), "reports", ackPrefix(id))
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		n += len(it.key) + len(it.value)
	}
	return n
}

// However often gateways are started again, a span has a bounded size of reports, which say
// exactly what all of them said.
func TestFoldingBoundsReports(t *testing.T) {
	c := open(t)
	id := RandomID()
	// A run that goes on, and one of a release that has no digest, stay beside the sum.
	live := AckReport{Node: 9, Run: "live", Records: 1, Digest: &AckDigest{}}
	live.Digest.Add(7, 1, 7)
	bare := AckReport{Node: 9, Run: "bare", Last: true, Records: 5, Next: -1}
	all := []AckReport{live, bare}
	if err := c.PutAckReports(t.Context(), id, all); err != nil {
		t.Fatal(err)
	}
	most := 0
	for i := range 200 {
		r := lastWord(i, 80)
		all = append(all, r)
		if err := c.PutAckReports(t.Context(), id, []AckReport{r}); err != nil {
			t.Fatal(err)
		}
		most = max(most, bytesOf(t, c, id))
		for _, s := range spansOf(t, c) {
			if s.Topic != id {
				t.Fatalf("%+v", s)
			}
			if s.Foldable() {
				if err := c.FoldAckReports(t.Context(), s, Fence{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	got := must(c.AckReports(t.Context(), id))(t)
	if len(got) > 3+foldFrom || most > (3+foldFrom)*10<<10 {
		t.Errorf("%d reports are left of 202, %d bytes at most", len(got), most)
	}
	want, have := totalOf(all), totalOf(got)
	want.Digest.Fold(have.Digest.Shift)
	have.Digest.Fold(want.Digest.Shift)
	if !reflect.DeepEqual(want, have) {
		t.Errorf("they said\n%+v\nand now\n%+v", want, have)
	}
	for _, r := range got {
		if len(r.Tail) > maxTail || len(r.InDoubt) > maxTail || len(r.Nodes) > 3 {
			t.Errorf("%+v", r)
		}
	}
	// A certification drops the sum with the rest.
	if err := c.DeleteAckReports(t.Context(), id, 0, 0, 1); err != nil {
		t.Fatal(err)
	}
	if left := must(c.AckReports(t.Context(), id))(t); len(left) > 0 {
		t.Errorf("%d are left", len(left))
	}
}

// Whatever comes between the reading and the writing of a fold (a crash, another controller, a
// further run, a certification that reads or deletes), each report counts once.
func TestFoldingCountsEachReportOnce(t *testing.T) {
	c := open(t)
	topic := RandomID()
	key := func(i int) string { r := lastWord(i, 0); return ackKey(topic, &r) }
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		check := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		_, err := c.cli.Delete(ctx, ackPrefix(topic), clientv3.WithPrefix())
		check(err)
		var said []AckReport
		var begun []fold // read by controllers that have not written
		run := 0
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				r := lastWord(run, rapid.IntRange(0, 3).Draw(rt, "batches"))
				check(c.PutAckReports(ctx, topic, []AckReport{r}))
				said = append(said, r)
				run++
			case 2: // a controller reads, and stops for now
				s := AckSpan{Topic: topic, prefix: key(0)[:len(ackPrefix(topic))+18]}
				for i := range run {
					s.last = append(s.last, key(i))
				}
				f, err := c.readFold(ctx, s)
				check(err)
				if len(f.keys) > 0 {
					begun = append(begun, f)
				}
			case 3, 4: // one of them writes, late
				if len(begun) > 0 {
					i := rapid.IntRange(0, len(begun)-1).Draw(rt, "who")
					if err := c.writeFold(ctx, begun[i], Fence{}); err != nil && !errors.Is(err, ErrConflict) {
						rt.Fatal(err)
					}
				}
			case 5:
				if rapid.IntRange(0, 4).Draw(rt, "certified") == 0 {
					check(c.DeleteAckReports(ctx, topic, 0, 0, 1))
					said = nil
				}
			}
			got, err := c.AckReports(ctx, topic)
			check(err)
			want, have := totalOf(said), totalOf(got)
			want.Digest.Fold(have.Digest.Shift)
			have.Digest.Fold(want.Digest.Shift)
			if !reflect.DeepEqual(want, have) {
				rt.Fatalf("they said\n%+v\nand now\n%+v", want, have)
			}
		}
	})
}

func TestFoldingIsFenced(t *testing.T) {
	c := open(t)
	id := RandomID()
	for i := range foldFrom {
		if err := c.PutAckReports(t.Context(), id, []AckReport{lastWord(i, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	s := spansOf(t, c)[0]
	if err := c.FoldAckReports(t.Context(), s, Fence{Key: dataRoot + "election/x/1", Revision: 5}); !errors.Is(err, ErrFenced) {
		t.Errorf("%v", err)
	}
	if n := len(must(c.AckReports(t.Context(), id))(t)); n != foldFrom {
		t.Errorf("%d reports", n)
	}
}

func TestAckKeysAreParsed(t *testing.T) {
	id := RandomID()
	for _, r := range []AckReport{{Node: 1, Partition: 7, Span: 31}, {Node: 1, Run: "a/b", Partition: 7, Span: 31, Last: true}} {
		s, ok := parseAckKey(ackKey(id, &r))
		if !ok || s.Topic != id || s.Partition != 7 || s.Span != 31 || s.prefix != fmt.Sprintf("%s00000007/00000031/", ackPrefix(id)) {
			t.Errorf("%+v %v", s, ok)
		}
	}
	for _, key := range []string{ackRoot, ackRoot + "x/1/1/1", ackPrefix(id) + "1/x/1", ackPrefix(id) + "-1/1/1", ackPrefix(id) + "1/1"} {
		if s, ok := parseAckKey(key); ok {
			t.Errorf("%s: %+v", key, s)
		}
	}
}
