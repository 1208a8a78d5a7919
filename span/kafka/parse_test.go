package kafka

import (
	"bytes"
	"strings"
	"testing"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/wire"
)

func FuzzWholeBatches(f *testing.F) {
	one, err := batch.NewBuilder().BaseOffset(7).LeaderEpoch(3).Add(batch.Record{Value: []byte("v")}).Build()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(append(bytes.Clone(one), one[:40]...))
	f.Add(append(bytes.Clone(one), one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, next, epoch, err := wholeBatches(b)
		if err != nil {
			return
		}
		if n < 0 || n > len(b) {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		// What it calls whole is what the walker of package batch takes as whole.
		rest := b[:n]
		for len(rest) > 0 {
			h, size, err := batch.Parse(rest)
			if err != nil {
				return // a field that only that one looks at
			}
			if size > len(rest) {
				t.Fatalf("a batch of %d bytes in %d", size, len(rest))
			}
			if rest = rest[size:]; len(rest) == 0 && (h.NextOffset() != next || h.PartitionLeaderEpoch != epoch) {
				t.Fatalf("next %d epoch %d, header says %d and %d", next, epoch, h.NextOffset(), h.PartitionLeaderEpoch)
			}
		}
	})
}

func FuzzParseJaas(f *testing.F) {
	f.Add(`x.PlainLoginModule required username="u" password="p;\"q";`)
	f.Add(`m required username=u password='p w' serviceName=x;`)
	f.Add(`= = "`)
	f.Fuzz(func(t *testing.T, text string) {
		user, password, err := parseJaas(text)
		if err == nil && (user == "" || password == "") {
			t.Fatal("neither credentials nor an error")
		}
		if err != nil && len(text) > 12 && strings.Contains(err.Error(), text) {
			t.Fatal("the error quotes the secret")
		}
	})
}

func TestParseJaas(t *testing.T) {
	for _, c := range []struct{ text, user, password string }{
		{`org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";`, "u", "p"},
		{`m required username='u v' password="a\"b;c" x=y;`, "u v", `a"b;c`},
		{"m required\n  username=u\n  password=p;", "u", "p"},
		{`m required username="u";`, "", ""},
		{`m required username="u" password="p`, "", ""},
		{``, "", ""},
	} {
		user, password, err := parseJaas(c.text)
		if user != c.user || password != c.password || (err == nil) != (c.user != "") {
			t.Errorf("%s: %q %q %v", c.text, user, password, err)
		}
	}
}

// TestKinds: no code that clients retry is passed on as the sender's own doing, and
// none that says nothing about the log is taken for a refusal by it.
func TestKinds(t *testing.T) {
	for code := wire.Code(-1); code < 140; code++ {
		k := kindOf(code)
		if code.Retriable() && k == kindRejected {
			t.Errorf("%v is retriable and rejected", code)
		}
	}
	for _, c := range []struct {
		code wire.Code
		want kind
	}{
		{wire.MessageTooLarge, kindTooLarge}, {wire.InvalidTimestamp, kindTooLarge},
		{wire.NotEnoughReplicas, kindRetry}, {wire.NotEnoughReplicasAfterAppend, kindMaybe},
		{wire.InvalidProducerEpoch, kindRejected}, {wire.InvalidRecord, kindRejected},
		{wire.OutOfOrderSequenceNumber, kindOrder}, {wire.DuplicateSequenceNumber, kindDuplicate},
	} {
		if got := kindOf(c.code); got != c.want {
			t.Errorf("%v is of kind %d, want %d", c.code, got, c.want)
		}
	}
}
