package chain

import (
	"testing"
	"time"

	"github.com/braidstream/braid/catalog"
)

// landing is one batch of one record in the walk below.
type landing struct {
	producer int64 // each appends through the gateway of its number
	seq      int32
	acked    bool // its gateway saw it acknowledged
	read     int  // bits of the gateways that have read it
}

// Every copy of up to four batches that two producers appended through a gateway
// each: every order, every choice of what was acknowledged and of who has read what,
// in the order in which a log and its answers allow it. After the cut each producer
// sends again, through either gateway, what it has no answer for, and the cluster
// comes back. Each batch is in the chain once then, and where it was acknowledged.
func TestEveryCutHoldsEachBatchOnce(t *testing.T) {
	worlds := 0
	var orders func(log []landing)
	orders = func(log []landing) {
		worlds += walkAnswers(t, log, 0)
		if len(log) == 4 {
			return
		}
		for p := int64(1); p <= 2; p++ {
			seq := int32(0)
			for _, l := range log {
				if l.producer == p {
					seq++
				}
			}
			orders(append(log[:len(log):len(log)], landing{producer: p, seq: seq}))
		}
	}
	orders(nil)
	t.Logf("%d worlds", worlds)
	if worlds < 10_000 {
		t.Error("too few")
	}
}

// walkAnswers chooses what was acknowledged and read of the log from i on. A
// gateway's answers come in order, and so do its reads; what it read it read from
// some offset on.
func walkAnswers(t *testing.T, log []landing, i int) (worlds int) {
	if i == len(log) {
		checkCut(t, log)
		return 1
	}
	own := true // all before of the same gateway are acknowledged
	for _, l := range log[:i] {
		own = own && (l.producer != log[i].producer || l.acked)
	}
	for reads := range 4 {
		for _, acked := range []bool{false, true} {
			if acked && !own {
				continue
			}
			log[i].acked, log[i].read = acked, reads
			worlds += walkAnswers(t, log, i+1)
		}
	}
	return worlds
}

func checkCut(t *testing.T, log []landing) {
	words := make([]catalog.HoldAck, 2)
	for g := range words {
		a := catalog.Account{Doubt: -1}
		next, known := int64(0), int64(0)
		for at, l := range log {
			mine := l.producer == int64(g+1)
			// Sent when all that this gateway had heard of before lay below.
			if mine && !l.acked && a.Doubt < 0 {
				a.Doubt = known
			}
			if l.read&(1<<g) != 0 || mine && l.acked {
				a.Batches = append(a.Batches, catalog.KnownBatch{From: int64(at), To: int64(at) + 1, Producer: l.producer, First: l.seq, Last: l.seq, Acked: mine && l.acked})
				next = int64(at) + 1
			}
			if mine && l.acked {
				known = int64(at) + 1
			}
		}
		words[g] = catalog.HoldAck{Next: []int64{next}, Accounts: []catalog.Account{a}}
	}
	c := &catalog.Copy{Map: []catalog.Piece{{}}}
	cut := CutAt(&catalog.Span{End: catalog.Open}, 0, words)
	state, err := MergeProducers(nil, cut.Producers(c, 1), Merge{Copy: c, End: cut.End, Now: time.UnixMilli(1), Lossy: true})
	if err != nil {
		t.Fatalf("%+v: %v", log, err)
	}
	c.Skip = cut.Skip
	inChain := func(at int) bool { return int64(at) < cut.End && skipped(c, int64(at)) == int64(at) }
	again := map[int64]int32{} // where each producer went on
	for at, l := range log {
		times := 0
		if inChain(at) {
			times++
		}
		if l.acked && times == 0 {
			t.Fatalf("%+v: cut at %d, left out %v: %d is gone", log, cut.End, cut.Skip, at)
		}
		if !l.acked {
			switch r, offset := Judge(FindProducer(state, l.producer), 0, l.seq, l.seq); {
			case r == RuleDuplicate && (offset != int64(at) || !inChain(at)):
				t.Fatalf("%+v: cut at %d, left out %v: the retry of %d is called a duplicate at %d", log, cut.End, cut.Skip, at, offset)
			case r == RuleAppend, r == RuleMissing && again[l.producer] > 0:
				times++
				if _, ok := again[l.producer]; !ok {
					again[l.producer] = l.seq
				}
			case r != RuleDuplicate:
				t.Fatalf("%+v: cut at %d, left out %v: the retry of %d: %v", log, cut.End, cut.Skip, at, r)
			}
		}
		if first, ok := again[l.producer]; !inChain(at) && (!ok || l.seq < first) {
			times++ // back with the cluster
		}
		if times != 1 {
			t.Fatalf("%+v: cut at %d, left out %v: %d is there %d times", log, cut.End, cut.Skip, at, times)
		}
	}
}
