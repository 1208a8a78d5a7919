package coordinator

import (
	"testing"

	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// While a topic is held those transactions that began before may come to it, so that they can end. Once it is being
// sealed none may that is not open in it already: the seal has looked at who is, and the cluster would
// refuse the marker of a later one for good. Those that are in it may go on, for the seal waits for them.
func TestNoTransactionComesToATopicThatIsSealed(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		d := newTxnDriver(t)
		p, e, _ := d.init(-1, -1)
		var res enlistResult
		enlist := func(topic string, partition int32, since int64, held bool) (code wire.Code) {
			t.Helper()
			x := &Enlist{Tenant: txnKey.tenant, ID: txnKey.group, Producer: p, Epoch: e, Implicit: true, At: chain.Enlist{Topic: idOf(topic), Partition: partition,
				Cluster: "a", Physical: span.Topic{Name: topic, ID: idOf(topic)}, Index: partition, Foreign: foreign}}
			d.event(func(m *machine) { res, code = m.enlist(x, since, held, nil) })
			if res.begin && code == wire.None {
				begun := &participant{cluster: "a", id: "there", producer: 7, epoch: 1}
				d.event(func(m *machine) { res, code = m.enlist(x, since, held, begun) })
			}
			if code == wire.None && !res.granted {
				d.event(func(m *machine) { res, code = m.added(x, res) })
			}
			return code
		}
		d.want("another topic", enlist("other", 0, 0, false), wire.None)
		began := d.m.now
		d.m.now += 10
		d.want("a held one, began before", enlist("held", 0, began+5, true), wire.None)
		d.want("one that is sealed", enlist("sealed", 0, 0, true), wire.ReassignmentInProgress)
		d.want("the one that it is in, sealed", enlist("held", 1, 0, true), wire.None)
		d.want("once more", enlist("held", 0, 0, true), wire.None)
		if !foreign {
			continue
		}
		// The place is written down, and the cluster was never asked: it is not in it.
		x := &Enlist{Tenant: txnKey.tenant, ID: txnKey.group, Producer: p, Epoch: e, Implicit: true, At: chain.Enlist{Topic: idOf("late"),
			Cluster: "a", Physical: span.Topic{Name: "late", ID: idOf("late")}, Foreign: true}}
		var code wire.Code
		d.event(func(m *machine) { res, code = m.enlist(x, 0, false, nil) })
		d.want("written down", code, wire.None)
		d.want("and sealed before it was added", enlist("late", 0, 0, true), wire.ReassignmentInProgress)
	}
}
