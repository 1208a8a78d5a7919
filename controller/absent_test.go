package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
)

// empty deletes all physical topics of a cluster behind the fleet's back.
func (f *fleet) empty(cluster string) {
	f.doubles[cluster].set(func() { clear(f.doubles[cluster].topics) })
}

func hasLost(p *catalog.PartitionCertificate, from, to int64) bool {
	return slices.ContainsFunc(p.Ranges, func(r catalog.Range) bool {
		return r.What == "lost" && r.From == from && r.To == to && r.Note == physicalGone
	})
}

// A cluster that comes back without the physical topics that it had has nothing to take in: the return
// ends, the certificates say what is lost, and the topic can be moved as any other.
func TestReturnOfAnEmptyCluster(t *testing.T) {
	t.Parallel()
	for _, how := range []string{strandedReplay, strandedInPlace} {
		f := newFleet(t, "a", "b", "c")
		f.controller()
		l := f.loses(how)
		f.gateway(1, l.w)
		l.away()
		f.empty("a")
		f.doubles["a"].set(func() { f.doubles["a"].away = false })
		cert := l.of(catalog.OpReturn, isFinal)
		p := cert.Partitions[0]
		if p.Verdict != catalog.VerdictViolated || p.Lost != 12 || p.Acknowledged != 12 || p.Found != 0 || p.Unread || !hasLost(&p, 0, 12) {
			t.Errorf("%s: %+v", how, p)
		}
		failover := l.of(catalog.OpFailover, func(c catalog.Certificate) bool { return c.Return == cert.Op })
		if p := failover.Partitions[0]; p.Verdict != catalog.VerdictViolated || p.Lost != 12 {
			t.Errorf("%s: the failover's: %+v", how, p)
		}
		op, err := f.cat.Op(f.ctx, cert.Op)
		f.check(err)
		if op = f.done(op); op.State != catalog.OpDone || op.Done != 1 || op.Message != "" {
			t.Errorf("%s: %+v", how, op)
		}
		if c := f.chain(l.topic, 0).Spans[0].Copies[0]; !c.Gone || !c.Unreadable || !c.Settled {
			t.Errorf("%s: %+v", how, c)
		}
		if got := l.counts(); got["v"] != 1 || got["lonely"] != 0 {
			t.Errorf("%s: readers get %v", how, got)
		}
		back, err := f.admin.Submit(f.ctx, OpRequest{Kind: catalog.OpFailback, Cluster: "a"})
		f.check(err)
		if back = f.done(back); back.State != catalog.OpDone {
			t.Errorf("%s: %+v", how, back)
		}
		if op := f.done(f.move("c", l.topic.Name)); op.State != catalog.OpDone || chain.OpenSpan(f.chain(l.topic, 0)).Copies[0].Cluster != "c" {
			t.Errorf("%s: %+v", how, op)
		}
	}
}

// A topic that is not there for a moment only is waited for, and all of it is taken in.
func TestReturnOfATopicThatIsNotHeardOfYet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "a", "b", "c")
	f.controller(func(o *Options) { o.GoneAfter = patience })
	l := f.loses(strandedReplay)
	f.gateway(1, l.w)
	l.away()
	had := f.doubles["a"].topics
	f.doubles["a"].set(func() { f.doubles["a"].topics, f.doubles["a"].away = map[string]*doubleTopic{}, false })
	f.until("the return waits", func() bool {
		ops, err := f.cat.Ops(f.ctx)
		f.check(err)
		return slices.ContainsFunc(ops, func(o catalog.Op) bool { return o.Kind == catalog.OpReturn && o.Message != "" })
	})
	f.doubles["a"].set(func() { f.doubles["a"].topics = had })
	f.until("the return", func() bool { return l.isBack("a") })
	if got := l.counts(); got["v"] != 13 || got["lonely"] != 3 {
		t.Errorf("readers get %v", got)
	}
	if c := f.chain(l.topic, 0).Spans[0].Copies[0]; c.Gone {
		t.Errorf("%+v", c)
	}
}

// A physical topic that is deleted while its cluster is up is lost with what it held: the chain goes on past that in a
// fresh one, and the certificates say so. A cluster that is not certain of it loses nothing.
func TestOpenCopyThatIsGone(t *testing.T) {
	t.Parallel()
	for _, config := range []map[string]string{{ConfigGuarantee: guaranteeAvailable}, {ConfigGuarantee: guaranteeOrdered}} {
		f := newFleet(t, "a", "b")
		topic := f.topic("on", 1, "a", config)
		l := &lostAndBack{fleet: f, topic: topic, w: f.writer(topic, 0, 100)}
		f.gateway(1, l.w)
		for range 12 {
			l.w.append(1)
		}
		groups := &groupsDouble{at: map[string]int64{"behind": 4, "abreast": 12}}
		f.controller(func(o *Options) { o.Standings = groups.standings })
		f.empty("a")
		f.until("the topic goes on", func() bool { return len(f.chain(topic, 0).Spans) == 2 })
		if ch := f.chain(topic, 0); chain.OpenSpan(ch).Copies[0].Cluster != "a" || ch.Spans[0].End != 12 {
			t.Errorf("%v: %+v", config, ch)
		}
		l.w.append(1)
		cert := l.of(catalog.OpReturn, isFinal)
		if p := cert.Partitions[0]; p.Verdict != catalog.VerdictViolated || p.Lost != 12 || !hasLost(&p, 0, 12) {
			t.Errorf("%v: %+v", config, p)
		}
		repair := l.of(catalog.OpRepair, func(c catalog.Certificate) bool { return c.Return == cert.Op })
		if p := repair.Partitions[0]; p.Verdict != catalog.VerdictViolated || p.Lost != 12 {
			t.Errorf("%v: the repair's: %+v", config, p)
		}
		for _, c := range []catalog.Certificate{cert, repair} {
			if got, want := groupsText(c.Partitions[0].Groups), "behind lost at 4 [4,12) 8"; got != want {
				t.Errorf("%v: groups of the %s: %s, want %s", config, c.Kind, got, want)
			}
		}
		f.until("the copy is settled", func() bool { return f.chain(topic, 0).Spans[0].Copies[0].Gone })
		if got := l.counts(); got["v"] != 1 {
			t.Errorf("%v: readers get %v", config, got)
		}
		if op := f.done(f.move("b", topic.Name)); op.State != catalog.OpDone {
			t.Errorf("%v: %+v", config, op)
		}
	}
}

// Until the last word the certificate of a repair tells of a copy that is gone, not of a cluster that is away.
func TestCertificateOfARepairSaysThatTheCopyIsGone(t *testing.T) {
	t.Parallel()
	standing := &catalog.Standing{Groups: []catalog.GroupStand{{Group: "g", Offset: 2}}}
	for _, gone := range []bool{false, true} {
		ev := evidence{end: catalog.SealedEnd{Start: 0, End: 12, Next: 12 + unknownRoom, Reported: true}, strayEnd: -1, lossy: true, gone: gone, away: "east", standing: standing}
		p := judge(0, &ev)
		text := strings.Join(p.Checked, "; ")
		for _, r := range p.Ranges {
			text += "; " + r.Note
		}
		if away := strings.Contains(text, "is away") || strings.Contains(text, "is back"); away == gone || strings.Contains(text, physicalGone) != gone {
			t.Errorf("gone %v: %s", gone, text)
		}
		if what := p.Groups[0].What; (what == catalog.GroupLost) != gone {
			t.Errorf("gone %v: %+v", gone, p.Groups)
		}
	}
}
