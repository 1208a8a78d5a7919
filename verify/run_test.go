package verify_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/internal/testkit/leaks"
	"github.com/braidstream/braid/verify"
)

func TestMain(m *testing.M) {
	code := testkit.Main(m)
	// Every client, producer and reader of every run has ended by now.
	if err := leaks.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestRunIsCleanOnKafka(t *testing.T) {
	c := testkit.Shared(t)
	for name, o := range map[string]verify.Options{
		"idempotent":     {},
		"not idempotent": {NonIdempotent: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Bootstrap, o.Duration, o.Settle, o.Rate = c.Addrs(), 2*time.Second, 2*time.Minute, 5000
			var last verify.Progress
			o.Progress, o.ProgressEvery = func(p verify.Progress) { last = p }, 100*time.Millisecond
			r, err := verify.Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%s", &r)
			if !r.OK() || !r.Complete() || len(r.Problems) > 0 {
				t.Fatal("not clean")
			}
			if r.Acknowledged < 1000 || r.Found != r.Acknowledged || r.Polled < 2*r.Acknowledged {
				t.Fatalf("acknowledged %d, found %d, polled %d", r.Acknowledged, r.Found, r.Polled)
			}
			if last.Acknowledged != r.Acknowledged || last.Phase != "final read" {
				t.Fatalf("last progress %+v", last)
			}
		})
	}
}
