package coordinator

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/chain"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// leftParticipants are clusters of whose aborted part less and less is there.
type leftParticipants struct {
	*killParticipants
	find   func(part chain.Part) (chain.Part, error)
	repeat func() error // after it was appended
}

func (c *leftParticipants) Find(ctx context.Context, at chain.PartCopy, x span.Transaction) (chain.Part, error) {
	part, err := c.killParticipants.Find(ctx, at, x)
	if err != nil {
		return part, err
	}
	return c.find(part)
}

func (c *leftParticipants) Repeat(ctx context.Context, part chain.Part, topic catalog.ID, partition int32, producer int64, epoch int16,
	first int32, txn *chain.Transaction) (int32, chain.LeftOut, error) {
	if part.Records == 0 {
		return first, chain.LeftOut{}, nil
	}
	if c.repeat == nil {
		return first, chain.LeftOut{}, chain.ErrUnknownTopic
	}
	if _, _, err := c.killParticipants.Repeat(ctx, part, topic, partition, producer, epoch, first, txn); err != nil {
		return first, chain.LeftOut{}, err
	}
	return first, chain.LeftOut{}, c.repeat()
}

// Where nothing is left to be appended anew the transaction is complete all the same, and
// what a former attempt has appended is aborted: else it would be open in its partitions for ever.
func TestTornPartOfWhichNothingIsLeft(t *testing.T) {
	var gone atomic.Bool
	for _, tc := range []struct {
		name   string
		find   func(part chain.Part) (chain.Part, error)
		repeat func() error
	}{
		{name: "the topic was deleted", find: func(part chain.Part) (chain.Part, error) { return part, nil }},
		{name: "a cleaner has emptied its batches", find: func(part chain.Part) (chain.Part, error) {
			part.Records, part.Whole = 0, false
			return part, nil
		}},
		{name: "the copy went after a first attempt", find: func(part chain.Part) (chain.Part, error) {
			if gone.Load() {
				return chain.Part{}, span.ErrGone
			}
			return part, nil
		}, repeat: func() error { gone.Store(true); return errFault }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFleet(t, 1, Config{})
			clusters := newClusters()
			clusters.tear["y"] = 1
			f.participants = &leftParticipants{&killParticipants{clusters, nil}, tc.find, tc.repeat}
			g := f.join(1)
			defer g.stop()
			eventually(t, "served", func() bool { return f.ready(1) })
			if code := runTxn(t, g, &killer{}, true); code != wire.None {
				t.Fatal(code)
			}
			eventually(t, "the id is free", func() bool { return wire.Code(initTxn(g).ErrorCode) == wire.None })
			clusters.mu.Lock()
			defer clusters.mu.Unlock()
			for key, x := range clusters.txns {
				if x.state == "open" {
					t.Errorf("the transaction on %s is open", key)
				}
			}
		})
	}
}
