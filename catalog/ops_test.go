package catalog

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// heldWatcher lets no watch be made before its gate is open.
type heldWatcher struct {
	clientv3.Watcher
	gate <-chan struct{}
}

func (h heldWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	<-h.gate
	return h.Watcher.Watch(ctx, key, opts...)
}

// A listener lists the operations at its first signal. One that is created between
// that and the watch must not be missed: so there is no signal before the watch.
func TestNoOperationIsMissedAtTheStart(t *testing.T) {
	// An etcd of its own: other tests count operations.
	etcd := must(StartEmbedded(t.Context(), EmbeddedConfig{Dir: t.TempDir(), NoSync: true, Logger: quiet()}))(t)
	t.Cleanup(func() {
		if err := etcd.Close(); err != nil {
			t.Error(err)
		}
	})
	c := connect(t, etcd.Endpoints())
	gate := make(chan struct{})
	c.cli.Watcher = heldWatcher{c.cli.Watcher, gate}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	changed := c.OpChanges(ctx)
	select {
	case <-changed:
		close(gate)
		t.Fatal("a signal before there is a watch")
	default:
	}
	missed := must(c.CreateOp(ctx, Op{Kind: OpMove}))(t)
	close(gate)
	if _, ok := <-changed; !ok {
		t.Fatal("no first signal")
	}
	must(c.Op(ctx, missed.ID))(t) // what was there before is listed
	for range 20 {
		must(c.CreateOp(ctx, Op{Kind: OpMove}))(t)
		if _, ok := <-changed; !ok {
			t.Fatal("an operation was not told of")
		}
	}
	cancel()
	for range changed { //nolint:revive // wait for the watch to end
	}
}
