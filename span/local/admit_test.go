package local_test

import (
	"errors"
	"testing"
	"time"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/span/local"
	"github.com/braidstream/braid/span/local/vfs"
	"github.com/braidstream/braid/wire"
)

// Of several unfit records in a batch Apache Kafka tells of a time before it tells of
// a missing key, whichever comes first; of one record, the other way round.
func TestUnfitRecords(t *testing.T) {
	s, err := local.Open(memOptions(vfs.NewMem()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	topic := create(t, s, "t", 1, "cleanup.policy", "compact", "message.timestamp.before.max.ms", "3600000", "message.timestamp.after.max.ms", "3600000")
	l := s.Log(topic, 0)
	defer l.Release()
	record := func(age time.Duration, key []byte) batch.Record {
		return batch.Record{Timestamp: time.Now().Add(-age).UnixMilli(), Key: key, Value: []byte("v")}
	}
	key := []byte("k")
	for _, c := range []struct {
		name    string
		records []batch.Record
		want    wire.Code
	}{
		{"fit", []batch.Record{record(0, key)}, wire.None},
		{"no key", []batch.Record{record(0, key), record(0, nil)}, wire.InvalidRecord},
		{"no key, then too old", []batch.Record{record(0, nil), record(2*time.Hour, key)}, wire.InvalidTimestamp},
		{"too old, then no key", []batch.Record{record(2*time.Hour, key), record(0, nil)}, wire.InvalidTimestamp},
		{"no key, then too new", []batch.Record{record(0, nil), record(-2*time.Hour, key)}, wire.InvalidTimestamp},
		{"too old without a key", []batch.Record{record(2*time.Hour, nil)}, wire.InvalidRecord},
		{"too new without a key", []batch.Record{record(-2*time.Hour, nil)}, wire.InvalidRecord},
	} {
		b := batch.NewBuilder()
		for _, r := range c.records {
			b.Add(r)
		}
		raw, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		a := put(l, raw)
		var r *span.RejectedError
		if c.want == wire.None && a.Err != nil || c.want != wire.None && (!errors.As(a.Err, &r) || r.Code != c.want) {
			t.Errorf("%s: %v, want code %v", c.name, a.Err, c.want)
		}
	}
}
