package coordinator

import (
	"bytes"
	"fmt"
	"maps"
	"testing"

	"pgregory.net/rapid"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

var txnKey = groupKey{"default", "pay"}

// txnDriver makes the requests of one transactional id.
type txnDriver struct {
	*driver
	t       testing.TB
	fresh   int64
	granted enlistResult
}

func newTxnDriver(t testing.TB) *txnDriver {
	return &txnDriver{driver: newDriver(t, Config{}), t: t, fresh: 1000}
}

func (d *txnDriver) init(producer int64, epoch int16) (int64, int16, wire.Code) {
	r := &initRequest{key: txnKey, timeout: 60_000, producer: producer, epoch: epoch, fresh: noID}
	for {
		var res initResult
		var code wire.Code
		d.event(func(m *machine) { res, code = m.initProducer(r) })
		switch {
		case code == wire.None && res.aborting:
			return noID, noEpoch, wire.ConcurrentTransactions
		case code != wire.None || !res.needID:
			return res.producer, res.epoch, code
		}
		d.fresh++
		r.fresh = d.fresh
	}
}

func (d *txnDriver) add(producer int64, epoch int16, partition int32) (code wire.Code) {
	d.event(func(m *machine) {
		code = m.addToTxn(&addRequest{key: txnKey, producer: producer, epoch: epoch, parts: []partKey{{idOf("topic"), partition}}})
	})
	return code
}

func (d *txnDriver) enlist(producer int64, epoch int16, partition int32, implicit, held bool) (code wire.Code) {
	since := int64(0)
	if held {
		since = d.m.now
	}
	d.event(func(m *machine) {
		d.granted, code = m.enlist(&Enlist{Tenant: txnKey.tenant, ID: txnKey.group, Producer: producer, Epoch: epoch, Implicit: implicit,
			At: chain.Enlist{Topic: idOf("topic"), Partition: partition, Cluster: "a", Physical: span.Topic{Name: "p", ID: idOf("p")}, Index: partition}}, since, held, nil)
	})
	return code
}

func (d *txnDriver) end(producer int64, epoch int16, commit, bump bool) (p int64, e int16, code wire.Code) {
	r := &endRequest{key: txnKey, producer: producer, epoch: epoch, commit: commit, bump: bump, fresh: noID}
	for {
		var res endResult
		d.event(func(m *machine) { res, code = m.end(r, true) })
		switch {
		case code != wire.None:
			return noID, noEpoch, code
		case !res.needID:
			if p, e = res.txn.producer, res.txn.epoch; res.txn.next != noID {
				p, e = res.txn.next, 0
			}
			return p, e, code
		}
		d.fresh++
		r.fresh = d.fresh
	}
}

func (d *txnDriver) complete() {
	d.event(func(m *machine) {
		if t := m.txns[txnKey]; t != nil {
			m.completeTxn(txnKey, t.producer, t.epoch, nil)
		}
	})
}

func (d *txnDriver) state() txnState { return d.m.txns[txnKey].state }

func (d *txnDriver) want(what string, got, want wire.Code) {
	d.t.Helper()
	if got != want {
		d.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestTransactionBeforeKIP890(t *testing.T) {
	d := newTxnDriver(t)
	p, e, code := d.init(-1, -1)
	if code != wire.None || e != 0 {
		t.Fatal(p, e, code)
	}
	d.want("commit of nothing", codeOf(d.end(p, e, true, false)), wire.InvalidTxnState)
	d.want("enlist before add", d.enlist(p, e, 0, false, false), wire.InvalidTxnState)
	d.want("add", d.add(p, e, 0), wire.None)
	d.want("enlist", d.enlist(p, e, 0, false, false), wire.None)
	d.want("another producer", d.add(p+1, e, 0), wire.InvalidProducerIDMapping)
	d.want("newer epoch", d.add(p, e+1, 0), wire.ProducerFenced)
	d.want("commit", codeOf(d.end(p, e, true, false)), wire.None)
	d.want("commit again on its way", codeOf(d.end(p, e, true, false)), wire.ConcurrentTransactions)
	d.want("abort after commit", codeOf(d.end(p, e, false, false)), wire.InvalidTxnState)
	d.want("add on its way", d.add(p, e, 1), wire.ConcurrentTransactions)
	d.want("enlist on its way", d.enlist(p, e, 0, false, false), wire.ConcurrentTransactions)
	if _, _, code := d.init(-1, -1); code != wire.ConcurrentTransactions {
		t.Error(code)
	}
	d.complete()
	if d.state() != txnCompleteCommit {
		t.Error(d.state())
	}
	d.want("commit again", codeOf(d.end(p, e, true, false)), wire.None)
	d.want("abort after commit", codeOf(d.end(p, e, false, false)), wire.InvalidTxnState)
	d.want("the next one is to be added anew", d.enlist(p, e, 0, false, false), wire.InvalidTxnState)
	d.want("next", d.add(p, e, 0), wire.None)
	// Another incarnation fences it.
	if _, _, code := d.init(-1, -1); code != wire.ConcurrentTransactions {
		t.Error(code)
	}
	d.want("fenced", codeOf(d.end(p, e, true, false)), wire.ProducerFenced)
	d.want("fenced", d.enlist(p, e, 0, false, false), wire.InvalidProducerEpoch)
	d.complete()
	if d.state() != txnCompleteAbort {
		t.Error(d.state())
	}
	p2, e2, code := d.init(-1, -1)
	if code != wire.None || p2 != p || e2 != 2 {
		t.Error(p2, e2, code)
	}
}

func codeOf(_ int64, _ int16, code wire.Code) wire.Code { return code }

func TestTransactionWithKIP890(t *testing.T) {
	d := newTxnDriver(t)
	p, e, _ := d.init(-1, -1)
	d.want("implicit", d.enlist(p, e, 0, true, false), wire.None)
	p1, e1, code := d.end(p, e, true, true)
	if code != wire.None || p1 != p || e1 != e+1 {
		t.Fatal(p1, e1, code)
	}
	d.want("retry on its way", codeOf(d.end(p, e, true, true)), wire.ConcurrentTransactions)
	d.complete()
	if p2, e2, code := d.end(p, e, true, true); p2 != p1 || e2 != e1 || code != wire.None {
		t.Error("retry:", p2, e2, code)
	}
	d.want("retry the other way", codeOf(d.end(p, e, false, true)), wire.ProducerFenced)
	d.want("late batch", d.enlist(p, e, 0, true, false), wire.InvalidProducerEpoch)
	d.want("commit of nothing", codeOf(d.end(p1, e1, true, true)), wire.InvalidTxnState)
	p2, e2, code := d.end(p1, e1, false, true)
	if code != wire.None || e2 != e1+1 {
		t.Error("abort of nothing:", p2, e2, code)
	}
	d.complete()
	d.want("goes on", d.enlist(p2, e2, 1, true, false), wire.None)
	// The timeout aborts it, and the client goes on from its own epoch.
	d.event(func(m *machine) {
		m.decide(m.txns[txnKey], txnPrepareAbort, decision{bump: true, keep: true})
	})
	d.complete()
	d.want("too late", codeOf(d.end(p2, e2, true, true)), wire.ProducerFenced)
	if p3, e3, code := d.init(p2, e2); code != wire.None || p3 != p2 || e3 <= e2 {
		t.Error("bump after a timeout:", p3, e3, code)
	}
}

func TestTransactionEpochsAreUsedUp(t *testing.T) {
	for _, bump := range []bool{false, true} {
		d := newTxnDriver(t)
		p, _, _ := d.init(-1, -1)
		d.m.txns[txnKey].epoch = lastEpoch
		if bump {
			d.want("implicit", d.enlist(p, lastEpoch, 0, true, false), wire.None)
			next, e, code := d.end(p, lastEpoch, true, true)
			if code != wire.None || next == p || e != 0 {
				t.Fatal(next, e, code)
			}
			if m := d.m.txns[txnKey]; m.producer != p || m.epoch != lastEpoch+1 {
				t.Error("markers are of", m.producer, m.epoch)
			}
			d.complete()
			if again, e, code := d.end(p, lastEpoch, true, true); again != next || e != 0 || code != wire.None {
				t.Error("retry:", again, e, code)
			}
			d.want("goes on", d.enlist(next, 0, 0, true, false), wire.None)
			continue
		}
		next, e, code := d.init(p, lastEpoch)
		if code != wire.None || next == p || e != 0 {
			t.Fatal(next, e, code)
		}
		if again, e, code := d.init(p, lastEpoch); again != next || e != 0 || code != wire.None {
			t.Error("retry:", again, e, code)
		}
	}
}

// Some clients say at the first request of a transactional id that they have producer 0 with epoch 0, as Apache Kafka lets
// them: see its TransactionMetadata.prepareIncrementProducerEpoch.
func TestFirstInitOfATransactionalIDWithAProducerID(t *testing.T) {
	for _, was := range []struct {
		producer int64
		epoch    int16
	}{{0, 0}, {7, 12}, {4711, lastEpoch}} {
		d := newTxnDriver(t)
		p, e, code := d.init(was.producer, was.epoch)
		if code != wire.None || p == was.producer || e != 0 {
			t.Errorf("with %d, %d: %d, %d, %v, want a new producer with epoch 0", was.producer, was.epoch, p, e, code)
		}
		d.want("implicit", d.enlist(p, e, 0, true, false), wire.None)
		p, e, code = d.end(p, e, true, true)
		d.want("end", code, wire.None)
		d.complete()
		d.want("another's id", codeOf(d.init(was.producer, was.epoch)), wire.ProducerFenced)
		if p2, e2, code := d.init(p, e); p2 != p || e2 != e+1 || code != wire.None {
			t.Errorf("goes on: %d, %d, %v", p2, e2, code)
		}
	}
}

func TestTransactionTimesOut(t *testing.T) {
	d := newTxnDriver(t)
	var told []groupKey
	d.m.overdue = func(key groupKey) { told = append(told, key) }
	p, e, _ := d.init(-1, -1)
	d.want("add", d.add(p, e, 0), wire.None)
	d.pass(59_000)
	if len(told) > 0 {
		t.Error("too early")
	}
	d.pass(1500)
	if len(told) == 0 {
		t.Fatal("nobody was told")
	}
	s := d.successor()
	s.m.beginTxns()
	told = nil
	s.m.overdue = func(key groupKey) { told = append(told, key) }
	s.pass(1)
	if len(told) == 0 {
		t.Error("the successor tells nobody")
	}
	// An id that nobody uses is forgotten, and starts anew.
	d.event(func(m *machine) { m.decide(m.txns[txnKey], txnPrepareAbort, decision{bump: true}) })
	d.complete()
	d.pass(8 * 24 * 3600 * 1000)
	if len(d.m.txns) > 0 || len(d.successor().m.txns) > 0 {
		t.Error("not forgotten")
	}
}

// A topic that is about to be sealed takes no transaction that began after that
// became known; one from before may grow, or those that hold parts of two such
// topics would wait for one another.
func TestHeldTopicTakesNoNewTransactions(t *testing.T) {
	d := newTxnDriver(t)
	p, e, _ := d.init(-1, -1)
	d.want("new", d.enlist(p, e, 0, true, true), wire.ReassignmentInProgress)
	d.want("before", d.enlist(p, e, 0, true, false), wire.None)
	d.m.now++
	d.want("known part", d.enlist(p, e, 0, true, true), wire.None)
	d.want("grows", d.enlist(p, e, 1, true, true), wire.None)
}

// Whatever happens, a successor knows the same, also from a log that was
// rewritten and trimmed.
func TestTransactionsReplay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newTxnDriver(t)
		p, e, _ := d.init(-1, -1)
		start := 0
		rt.Repeat(map[string]func(*rapid.T){
			"init": func(rt *rapid.T) {
				if np, ne, code := d.init(-1, -1); code == wire.None {
					if np == p && ne <= e {
						rt.Fatalf("epoch %d after %d", ne, e)
					}
					p, e = np, ne
				}
			},
			"add":    func(rt *rapid.T) { d.add(p, e, rapid.Int32Range(0, 3).Draw(rt, "partition")) },
			"enlist": func(rt *rapid.T) { d.enlist(p, e, rapid.Int32Range(0, 3).Draw(rt, "partition"), true, false) },
			"end": func(rt *rapid.T) {
				bump := rapid.Bool().Draw(rt, "bump")
				if np, ne, code := d.end(p, e, rapid.Bool().Draw(rt, "commit"), bump); code == wire.None && bump {
					p, e = np, ne
				}
			},
			"complete": func(*rapid.T) { d.complete() },
			"offsets": func(rt *rapid.T) {
				d.event(func(m *machine) {
					m.commitPending(&commitRequest{key: groupKey{"default", "g"}, generation: -1, topics: []topicOffsets{{name: "topic", id: idOf("topic"),
						partitions: []partitionOffset{{partition: 1, offset: rapid.Int64Range(0, 99).Draw(rt, "offset"), leaderEpoch: -1}}}}}, p, rapid.Int64Range(0, 3).Draw(rt, "began"))
				})
			},
			"settle": func(rt *rapid.T) {
				d.event(func(m *machine) {
					m.settleOffsets(groupKey{"default", "g"}, p, rapid.Int64Range(0, 3).Draw(rt, "of"), rapid.Bool().Draw(rt, "commit"))
				})
			},
			"snapshot": func(*rapid.T) {
				at := len(d.log)
				d.event(func(m *machine) {
					for _, k := range m.snapshotKeys() {
						m.snapshotGroup(k)
					}
					for _, k := range m.snapshotTxns() {
						m.snapshotTxn(k)
					}
				})
				start = at
			},
			"": func(rt *rapid.T) {
				s := &driver{t: t, topics: d.topics, ids: d.ids, log: d.log[start:], durable: len(d.log) - start}
				s.m = d.m
				n := s.successor()
				weighed(rt, d.m)
				weighed(rt, n.m)
				if len(n.m.txns) != len(d.m.txns) {
					rt.Fatalf("%d ids, the successor knows %d", len(d.m.txns), len(n.m.txns))
				}
				for k, tx := range d.m.txns {
					// When it was last touched is only written with the whole.
					a, b := tx.clone(), n.m.txns[k].clone()
					a.updated, b.updated = 0, 0
					if !bytes.Equal(a.encode(), b.encode()) {
						rt.Fatalf("replayed %+v, is %+v", b, a)
					}
				}
				if a, b := pendingOf(d.m), pendingOf(n.m); !maps.Equal(a, b) {
					rt.Fatalf("pending offsets replayed as %v, are %v", b, a)
				}
			},
		})
	})
}

func pendingOf(m *machine) map[string]int64 {
	out := map[string]int64{}
	for k, g := range m.groups {
		for p, o := range g.txns {
			for name, topic := range o.topics {
				for part, at := range topic.partitions {
					out[fmt.Sprint("pending ", k, p, name, part)] = at.offset
				}
			}
		}
		for name, s := range g.offsets {
			for part, at := range s.partitions {
				out[fmt.Sprint("committed ", k, name, part)] = at.offset
			}
		}
	}
	return out
}

func FuzzTxnRecords(f *testing.F) {
	d := newTxnDriver(f)
	p, e, _ := d.init(-1, -1)
	d.enlist(p, e, 0, true, false)
	d.end(p, e, true, true)
	d.complete()
	for _, r := range d.log {
		f.Add([]byte(r))
	}
	f.Add([]byte((&txnOffsets{5, 6, &offsetsRecord{key: txnKey, topics: []topicOffsets{{name: "t", partitions: []partitionOffset{{0, 1, 2, "m"}}}}}}).encode()))
	f.Add([]byte(txnSettled{txnKey, 5, true, 7}.encode()))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMachine(Config{}.withDefaults(), newUUID, allTopics{}, quiet())
		if _, err := m.apply(b); err != nil {
			return
		}
		for _, tx := range m.txns {
			if r := tx.encode(); len(r) > 4*len(b)+256 {
				t.Errorf("%d bytes make %d", len(b), len(r))
			}
		}
	})
}

// The transactions of an id are told apart by when they began, also where one owner's clock is behind the one's before it.
func TestTransactionsOfAnIDNeverBeginEarlierThanTheLast(t *testing.T) {
	d := newTxnDriver(t)
	p, e, _ := d.init(-1, -1)
	d.m.now += 10_000
	d.want("add", d.add(p, e, 1), wire.None)
	first := d.m.txns[txnKey].started
	next := d.successor()
	next.m.now = first - 5_000
	d.driver = next
	d.want("commit", codeOf(d.end(p, e, true, false)), wire.None)
	d.complete()
	d.m.now += 100
	d.want("the next one", d.add(p, e, 1), wire.None)
	if second := d.m.txns[txnKey].started; second <= first {
		t.Errorf("the first began at %d, the second at %d", first, second)
	}
}
