package verify_test

import (
	"sync"
	"testing"
	"time"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

func TestRunTxnsIsCleanOnKafka(t *testing.T) {
	c := testkit.Shared(t)
	var last verify.Progress
	enough := make(chan struct{})
	end := sync.OnceFunc(func() { close(enough) })
	r, err := verify.RunTxns(t.Context(), verify.TxnOptions{Bootstrap: c.Addrs(), Duration: 4 * time.Minute, Until: enough, Settle: 4 * time.Minute,
		Configs: make([]map[string]string, 3), Aborts: 20, Kills: 10, ProgressEvery: 100 * time.Millisecond,
		Progress: func(p verify.Progress) {
			last = p
			if p.Committed >= 150 { // and of so many some are aborted
				end()
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &r)
	if !r.OK() || !r.Complete() {
		t.Fatal("not clean")
	}
	if r.Committed == 0 || r.Aborted == 0 || r.Topics[0].Found == 0 || r.Topics[1].Polled < r.Topics[1].Found {
		t.Fatal("nothing was looked at")
	}
	if last.Committed != r.Committed || last.Phase != "final read" {
		t.Fatalf("last progress %+v", last)
	}
}

func TestRunTxnsRefusesBadOptions(t *testing.T) {
	for name, o := range map[string]verify.TxnOptions{
		"no address":      {},
		"no producers":    {Producers: -1},
		"rate":            {Rate: -5},
		"duration":        {Duration: -1},
		"too many aborts": {Aborts: 60, Kills: 60},
		"too many topics": {Configs: make([]map[string]string, 1000)},
		"configs":         {Topics: []string{"a"}, Configs: make([]map[string]string, 2)},
		"timeout":         {Timeout: -1},
	} {
		if name != "no address" {
			o.Bootstrap = []string{"127.0.0.1:1"}
		}
		if _, err := verify.RunTxns(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
