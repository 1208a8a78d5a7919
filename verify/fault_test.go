package verify_test

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

// when runs f once, as soon as a run has so many acknowledgements.
func when(acked int64, f func()) func(verify.Progress) {
	done := false
	return func(p verify.Progress) {
		if !done && p.Acknowledged >= acked {
			done = true
			f()
		}
	}
}

// Faults of the network between clients and an endpoint that keeps its word are not its fault:
// acknowledgements that were lost are asked for again, and what comes of that is clean.
func TestRunIsCleanOverABadNetwork(t *testing.T) {
	proxy := testkit.NewProxy(t, "127.0.0.1:1")
	c := testkit.Kafka(t, testkit.Advertise(1, proxy.Addr()))
	proxy.SetTarget(c.Addrs()[0])
	const stalled = 400 * time.Millisecond
	faults := make(chan error, 1)
	r, err := verify.Run(t.Context(), verify.Options{
		Bootstrap: []string{proxy.Addr()}, Partitions: 3, Rate: 3000, Duration: 3 * time.Second, Settle: 2 * time.Minute,
		ProgressEvery: 10 * time.Millisecond,
		Progress: when(1000, func() {
			proxy.Reset()
			proxy.LoseResponses()
			proxy.Stall(testkit.Up)
			// The stall is what is measured below, so its length is what is waited for.
			time.AfterFunc(stalled, func() { faults <- proxy.Heal() })
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-faults; err != nil {
		t.Fatal(err)
	}
	if !r.OK() || !r.Complete() || r.Unknown > 0 || r.Found != r.Sent {
		t.Fatalf("\n%s", &r)
	}
	if r.Pauses.Longest < float64(stalled.Milliseconds()) {
		t.Fatalf("the longest pause is %.0f ms, of a stall of %s", r.Pauses.Longest, stalled)
	}
}

// An endpoint that goes away keeps nobody from judging, but nothing counts as verified.
func TestRunOverADeadEndpoint(t *testing.T) {
	c := testkit.Kafka(t)
	dialed := make(chan string, 1000)
	killed := make(chan error, 1)
	r, err := verify.Run(t.Context(), verify.Options{
		Bootstrap: c.Addrs(), Partitions: 2, Duration: 2 * time.Second, Settle: time.Second,
		ProgressEvery: 10 * time.Millisecond,
		Progress:      when(100, func() { killed <- c.Kill() }),
		Dialer: func(ctx context.Context, network, host string) (net.Conn, error) {
			select {
			case dialed <- host:
			default:
			}
			return (&net.Dialer{}).DialContext(ctx, network, host)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Complete() || r.Unverified < 100 || r.Unknown == 0 || len(r.Problems) == 0 {
		t.Fatalf("\n%s", &r)
	}
	if r.Pauses.Longest <= 0 {
		t.Fatal("a pause that never ended is left out")
	}
	if len(dialed) == 0 || !slices.Contains(c.Addrs(), <-dialed) {
		t.Fatal("the dialer was not asked")
	}
}

func TestRunRefusesBadOptions(t *testing.T) {
	for name, o := range map[string]verify.Options{
		"no address":    {},
		"no producers":  {Producers: -1},
		"rate":          {Rate: -5},
		"partitions":    {Partitions: 1 << 20},
		"duration":      {Duration: -1},
		"records":       {RecordSize: 1 << 30},
		"too many":      {Consumers: 1 << 20},
		"settle":        {Settle: -time.Second},
		"too many more": {GroupConsumers: 1 << 20},
	} {
		if name != "no address" {
			o.Bootstrap = []string{"127.0.0.1:1"}
		}
		if _, err := verify.Run(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// An address where nobody is ends the run in the time that it was given.
	_, err := verify.Run(t.Context(), verify.Options{Bootstrap: []string{"127.0.0.1:1"}, Settle: 300 * time.Millisecond})
	if err == nil {
		t.Fatal("a run against nobody")
	}
	t.Log(err)
}

func TestRunCancelled(t *testing.T) {
	c := testkit.Shared(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := verify.Run(ctx, verify.Options{
		Bootstrap: c.Addrs(), Duration: time.Hour, ProgressEvery: 10 * time.Millisecond, Progress: when(50, cancel),
	})
	if err == nil || r.Acknowledged < 50 || r.Complete() {
		t.Fatalf("%v\n%s", err, &r)
	}
}
