package coordinator

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/wire"
)

// What a former owner, or a question that was repeated, says late of a transaction's end touches no offsets of the
// producer's next one, and what a transaction has left behind is not committed by the next.
func TestOffsetsAreEndedByTheirOwnTransaction(t *testing.T) {
	key := groupKey{"default", "g"}
	for _, tc := range []struct {
		name    string
		began   int64 // of the transaction that the offsets are of
		ended   int64 // of the one that is said to have ended
		commit  bool
		pending bool
		want    int64
	}{
		{"committed", 5, 5, true, false, 7},
		{"aborted", 5, 5, false, false, -1},
		{"a former one was committed", 5, 4, true, true, -1},
		{"a former one was aborted", 5, 4, false, true, -1},
		{"left behind, and the next one is committed", 4, 5, true, false, -1},
		{"of an earlier release", 0, 5, true, false, 7},
		{"told by an earlier release", 5, 0, true, false, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newTxnDriver(t)
			var code wire.Code
			d.event(func(m *machine) {
				code = m.commitPending(&commitRequest{key: key, generation: -1, topics: []topicOffsets{{name: "topic", id: idOf("topic"),
					partitions: []partitionOffset{{partition: 1, offset: 7, leaderEpoch: -1}}}}}, 9, tc.began)
			})
			if code != wire.None {
				t.Fatal(code)
			}
			d.event(func(m *machine) { code = m.settleOffsets(key, 9, tc.ended, tc.commit) })
			if code != wire.None {
				t.Fatal(code)
			}
			for _, m := range []*machine{d.m, d.successor().m} {
				all := pendingOf(m)
				at, committed := all[fmt.Sprint("committed ", key, "topic", 1)]
				if !committed {
					at = -1
				}
				if at != tc.want {
					t.Errorf("committed %d, want %d", at, tc.want)
				}
				if _, pending := all[fmt.Sprint("pending ", key, int64(9), "topic", 1)]; pending != tc.pending {
					t.Errorf("pending: %v", all)
				}
			}
		})
	}
}

// gatedPeers do something after the first answer to whether a transaction is open, before it is passed on.
type gatedPeers struct {
	fleetPeers
	once sync.Once
	then func()
}

func (p *gatedPeers) Ask(ctx context.Context, node int32, req *PeerRequest) (*PeerResponse, error) {
	resp, err := p.fleetPeers.Ask(ctx, node, req)
	if req.Add != nil {
		p.once.Do(p.then)
	}
	return resp, err
}

// A client asks to take offsets into its transaction and dies; the next instance has the transaction aborted before
// the group's coordinator has written those offsets down. They must not be committed with that instance's transaction.
func TestOffsetsThatComeAfterTheEndOfTheirTransaction(t *testing.T) {
	f := newFleet(t, 8, Config{})
	clusters := newClusters()
	both := map[int32]*fleetMember{1: f.joinTxn(1, clusters, nil), 2: f.joinTxn(2, clusters, nil)}
	eventually(t, "both serve", func() bool { return f.ready(1, 2) })
	node, _ := both[1].c.Owner("default", KeyTransaction, "pay")
	ofTxn, ofGroup := both[node], both[3-node]
	group := ""
	for i := 0; group == ""; i++ {
		if owner, _ := both[1].c.Owner("default", KeyGroup, fmt.Sprint("group-", i)); owner == ofGroup.node {
			group = fmt.Sprint("group-", i)
		}
	}
	peers := fleetPeers{1: both[1].c, 2: both[2].c}
	var next *kmsg.InitProducerIDResponse
	gate := &gatedPeers{fleetPeers: peers, then: func() {
		eventually(t, "the next instance begins", func() bool {
			next = initTxn(ofTxn)
			return next.ErrorCode == 0
		})
	}}
	ofTxn.c.peers, ofGroup.c.peers = peers, gate

	id := initTxn(ofTxn)
	commit := func(id *kmsg.InitProducerIDResponse, partition int32, offset int64) wire.Code {
		req := kmsg.NewPtrTxnOffsetCommitRequest()
		req.Version = 5
		req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch, req.Generation = "pay", group, id.ProducerID, id.ProducerEpoch, -1
		rt := kmsg.NewTxnOffsetCommitRequestTopic()
		rt.Topic = "topic"
		rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = partition, offset
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		return wire.Code(ofGroup.c.TxnOffsetCommit(t.Context(), Caller{Tenant: "default"}, req).Topics[0].Partitions[0].ErrorCode)
	}
	if code := commit(id, 0, 50); code != wire.CoordinatorLoadInProgress {
		t.Errorf("offsets of a transaction that was aborted meanwhile: %v", code)
	}
	if code := commit(id, 0, 50); code != wire.InvalidProducerEpoch {
		t.Errorf("once more: %v", code)
	}
	if code := commit(next, 1, 7); code != wire.None {
		t.Fatal(code)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.Version = 5
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "pay", next.ProducerID, next.ProducerEpoch, true
	if resp := ofTxn.c.EndTxn(t.Context(), Caller{Tenant: "default"}, end); resp.ErrorCode != 0 {
		t.Fatal(wire.Code(resp.ErrorCode))
	}
	eventually(t, "the offsets are stable", func() bool {
		_, code := fetchStable(ofGroup.c, group)
		return code == wire.None
	})
	if o, _ := fetchStable(ofGroup.c, group); o != -1 {
		t.Errorf("offset %d of an aborted transaction is committed", o)
	}
}

// The first offsets of a transaction came by a gateway of an earlier release, which does not say when it began, and later ones by
// one that does, or the other way round: they are committed together.
func TestOffsetsOfOneTransactionByTwoReleases(t *testing.T) {
	key := groupKey{"default", "g"}
	for _, began := range [][2]int64{{0, 5}, {5, 0}, {0, 0}, {5, 5}} {
		d := newTxnDriver(t)
		for i, b := range began {
			var code wire.Code
			d.event(func(m *machine) {
				code = m.commitPending(&commitRequest{key: key, generation: -1, topics: []topicOffsets{{name: "topic", id: idOf("topic"),
					partitions: []partitionOffset{{partition: int32(i), offset: 7, leaderEpoch: -1}}}}}, 9, b)
			})
			d.want(fmt.Sprint(began, " offsets ", i), code, wire.None)
		}
		next := d.successor()
		d.event(func(m *machine) { m.settleOffsets(key, 9, 5, true) })
		next.event(func(m *machine) { m.settleOffsets(key, 9, 5, true) })
		for _, m := range []*machine{d.m, next.m} {
			all := pendingOf(m)
			for i := range began {
				if _, ok := all[fmt.Sprint("committed ", key, "topic", i)]; !ok {
					t.Errorf("%v: partition %d is not committed: %v", began, i, all)
				}
			}
		}
	}
}
