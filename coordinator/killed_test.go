package coordinator

import (
	"fmt"
	"testing"

	"github.com/braidstream/braid/wire"
)

// A gateway is killed at each of its operations in turn: claims, barriers, reads,
// appends, snapshots, trims; before it and after it. Whatever it had acknowledged
// is what the next owner knows.
func TestKilledAtEachOperation(t *testing.T) {
	const commits = 40
	cases := 0
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			if !killedAt(t, at, after, commits) {
				break
			}
			cases++
		}
	}
	t.Logf("killed in %d ways", cases)
	if cases < 2*commits {
		t.Errorf("%d cases are fewer than there are operations", cases)
	}
}

// killedAt is false if the gateway made fewer operations than that.
func killedAt(t *testing.T, at int, after bool, commits int64) bool {
	t.Helper()
	f := newFleet(t, 1, Config{SnapshotBytes: 512})
	// One that was here before, so that there is something to replay.
	first := f.join(1)
	eventually(t, "served", func() bool { return f.ready(1) })
	for i := range int64(4) {
		if code := commitOffset(first.c, fmt.Sprint("g", i), "topic", 0, 1000+i); code != wire.None {
			t.Fatal(code)
		}
	}
	first.freeze()
	first.expire()

	k := &killer{at: at, after: after}
	f.kill = k
	g := f.join(2)
	want := [4]int64{1000, 1001, 1002, 1003}
	maybe := [4]int64{-1, -1, -1, -1} // sent and not acknowledged
	eventually(t, "served or killed", func() bool { return f.ready(2) || k.killed() })
	for i := int64(0); i < commits && !k.killed(); {
		switch code := commitOffset(g.c, fmt.Sprint("g", i%4), "topic", 0, i); code {
		case wire.None:
			want[i%4], maybe[i%4] = i, -1
			i++
		case wire.NotCoordinator, wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable:
			maybe[i%4] = i
		default:
			t.Fatal(code)
		}
	}
	killed := k.killed()
	g.freeze()
	g.expire()
	next := f.join(3)
	eventually(t, "taken over", func() bool { return f.ready(3) })
	for i := range int64(4) {
		o, code := fetchOffset(next.c, fmt.Sprint("g", i), "topic", 0)
		if code != wire.None || o != want[i] && o != maybe[i] {
			t.Errorf("killed at operation %d (after it: %v): g%d is %d, %v; acknowledged %d, sent %d", at, after, i, o, code, want[i], maybe[i])
		}
	}
	next.stop()
	return killed
}
