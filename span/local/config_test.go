package local_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
	"github.com/braidstream/braid/wire"
)

// Configs that make no sense are refused with their name, whether a topic is made or changed, and
// what is there stays as it was.
func TestAbsurdConfigs(t *testing.T) {
	opt := memOptions(vfs.NewMem())
	s, err := local.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	topic := create(t, s, "t", 1, "retention.ms", "-1", "max.message.bytes", "2000")
	l := s.Log(topic, 0)
	defer l.Release()
	var want []string
	for i := range 5 {
		want = append(want, fmt.Sprintf("%d=v%d", i, i))
		mustPut(t, l, made(t, 1000, fmt.Sprint("v", i)))
	}
	huge := strings.Repeat("9", 100_000)
	for i, c := range []struct{ name, value string }{
		{"max.message.bytes", "-1"}, {"max.message.bytes", "1e3"}, {"max.message.bytes", ""}, {"max.message.bytes", "2147483648"},
		{"max.message.bytes", huge},
		{"message.timestamp.type", "Yesterday"}, {"message.timestamp.type", ""},
		{"message.timestamp.before.max.ms", "-5"}, {"message.timestamp.after.max.ms", "soon"},
		{"segment.bytes", "0"}, {"segment.bytes", "13"}, {"segment.bytes", "2147483648"}, {"segment.bytes", "1 GiB"},
		{"segment.ms", "0"}, {"segment.ms", "9223372036854775808"},
		{"retention.ms", "-2"}, {"retention.ms", "0x10"}, {"retention.bytes", "-2"}, {"retention.bytes", "NaN"},
		{"min.compaction.lag.ms", "-1"}, {"max.compaction.lag.ms", "0"}, {"delete.retention.ms", "-1"},
		{"min.cleanable.dirty.ratio", "1.01"}, {"min.cleanable.dirty.ratio", "-0.1"}, {"min.cleanable.dirty.ratio", "NaN"},
		{"min.cleanable.dirty.ratio", "Inf"}, {"min.cleanable.dirty.ratio", "half"},
		{"cleanup.policy", "shred"}, {"cleanup.policy", "compact,delete,both"},
		{"braid.durability", "never"}, {"braid.durability", "interval="}, {"braid.durability", "interval=0s"},
		{"braid.durability", "interval=-1s"}, {"braid.durability", "interval=5"}, {"braid.durability", "FSYNC"},
		{strings.Repeat("n", 100_000), "1"},
	} {
		t.Run(fmt.Sprintf("%.40s=%.20s", c.name, c.value), func(t *testing.T) {
			refused := func(what string, err error) {
				t.Helper()
				var r *span.RejectedError
				if !errors.As(err, &r) || r.Code != wire.InvalidConfig {
					t.Fatalf("%s: %v", what, err)
				}
				if len(c.name) < 100 && len(c.value) < 100 && !strings.Contains(r.Detail, c.name) || len(r.Detail) > 1000 {
					t.Fatalf("%s: %.2000q does not say what is wrong", what, r.Detail)
				}
			}
			_, err := s.Create(t.Context(), span.Spec{Name: fmt.Sprint("absurd", i), Partitions: 1, Config: map[string]string{c.name: c.value}})
			refused("create", err)
			refused("configure", s.Configure(t.Context(), topic, map[string]string{"max.message.bytes": "10", c.name: c.value}))
			if got := readAll(t, l, 0); !slices.Equal(got, want) {
				t.Fatalf("%v", got)
			}
			// Nothing of what was refused was taken over.
			n := len(want)
			want = append(want, fmt.Sprintf("%d=more", n))
			mustPut(t, l, made(t, 1000, "more"))
		})
	}
	topics, err := s.Topics(t.Context(), "")
	if err != nil || len(topics) != 1 {
		t.Fatalf("%v, %v", topics, err)
	}
	l.Release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = local.Open(opt); err != nil {
		t.Fatal(err)
	}
	l = s.Log(topic, 0)
	if got := readAll(t, l, 0); !slices.Equal(got, want) {
		t.Fatalf("after a restart: %v", got)
	}
}

// A batch that no segment could hold is refused as Apache Kafka refuses it (UnifiedLog.append), and
// nothing of its producer is remembered.
func TestBatchLargerThanASegment(t *testing.T) {
	s, err := local.Open(memOptions(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "segment.bytes", "5000")
	l := s.Log(topic, 0)
	defer l.Release()
	make1 := func(size int) []byte {
		raw, err := batch.NewBuilder().Producer(9, 0, 0).Add(batch.Record{Timestamp: 1, Value: make([]byte, size)}).Build()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var r *span.RejectedError
	if a := put(l, make1(5000)); !errors.As(a.Err, &r) || r.Code != wire.RecordListTooLarge {
		t.Fatalf("%v", a.Err)
	}
	if a := mustPut(t, l, make1(4000)); a.BaseOffset != 0 || a.Duplicate {
		t.Fatalf("%+v", a)
	}
}

// A log is compacted not before its records have the age of min.compaction.lag.ms, and once they have that
// of max.compaction.lag.ms however little there is to gain.
func TestCompactionLags(t *testing.T) {
	for _, c := range []struct {
		name   string
		config []string
		// ages at which the first value of a key is still there, and is gone
		kept, gone time.Duration
	}{
		{"min", []string{"min.compaction.lag.ms", "60000", "min.cleanable.dirty.ratio", "0"}, 55 * time.Second, 65 * time.Second},
		{"max", []string{"max.compaction.lag.ms", "60000", "min.cleanable.dirty.ratio", "1"}, 55 * time.Second, 65 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := new(clock)
			now.ns.Store(time.Now().UnixNano())
			opt := memOptions(vfs.NewMem())
			opt.Now = now.now
			s, err := local.Open(opt)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			topic := create(t, s, "t", 1, append([]string{"cleanup.policy", "compact", "segment.bytes", "4096"}, c.config...)...)
			l := s.Log(topic, 0)
			defer l.Release()
			write := func(key string) {
				raw, err := batch.NewBuilder().Add(batch.Record{Timestamp: now.now().UnixMilli(), Key: []byte(key), Value: make([]byte, 200)}).Build()
				if err != nil {
					t.Fatal(err)
				}
				mustPut(t, l, raw)
			}
			// Something clean, so that what comes after it is not all there is.
			for i := range 40 {
				write(fmt.Sprint("base", i))
			}
			if err := s.FlushNow(); err != nil {
				t.Fatal(err)
			}
			if err := s.CompactNow(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				for i := range 20 {
					write(fmt.Sprint("key", i))
				}
			}
			first := func() bool {
				if err := errors.Join(s.FlushNow(), s.CompactDue()); err != nil {
					t.Fatal(err)
				}
				got, _ := readKeyed(t, l, false)
				_, there := got[40]
				return there
			}
			now.advance(c.kept)
			if !first() {
				t.Fatalf("compacted %s after it was written", c.kept)
			}
			now.advance(c.gone - c.kept)
			if first() {
				t.Fatalf("not compacted %s after it was written", c.gone)
			}
		})
	}
}
