package kafka_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/span"
)

// cutLog kills the node, takes bytes from the end of a partition's log, as a machine does that
// loses its page cache, and starts it again.
func cutLog(t *testing.T, n *testkit.Node, partition string, bytes int64) {
	t.Helper()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.DataDir(), partition, "00000000000000000000.log")
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, st.Size()-bytes); err != nil {
		t.Fatal(err)
	}
	// What it wrote down about its log would make it look for the rest.
	for _, f := range []string{"recovery-point-offset-checkpoint", "replication-offset-checkpoint"} {
		if err := os.Remove(filepath.Join(n.DataDir(), f)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestLogGoesBack: records that were acknowledged are gone after a crash. Neither an append nor a
// read goes on as if nothing had been, until the chain was extended past the loss (Forget).
func TestLogGoesBack(t *testing.T) {
	c := testkit.Kafka(t)
	for _, by := range []string{"append", "append with a producer", "read", "offsets"} {
		t.Run(by, func(t *testing.T) {
			s := open(t, c)
			topic := create(t, s, 1, nil)
			l := s.Log(topic, 0)
			defer l.Release()
			var size int
			for i := range 10 {
				raw := producerBatch(t, 1<<41, 0, int32(i), 1, "v")
				size = len(raw)
				if a := appendSync(t, l, raw); a.Err != nil {
					t.Fatal(a.Err)
				}
			}
			if by == "read" {
				readAll(t, l, 0)
			}
			// 3 records and a piece of a fourth are lost.
			cutLog(t, c.Node(1), topic.Name+"-0", int64(3*size+10))
			var err error
			switch by {
			case "append":
				// The first may still have to find out that the connection is gone.
				a := appendSync(t, l, oneBatch(t, 1, "after"))
				if errors.Is(a.Err, span.ErrUnknownOutcome) {
					a = appendSync(t, l, oneBatch(t, 1, "after"))
				}
				err = a.Err
			case "append with a producer":
				err = appendSync(t, l, producerBatch(t, 1<<41, 0, 10, 1, "after")).Err
			case "read":
				_, err = l.Read(t.Context(), span.ReadRequest{Offset: 10})
			case "offsets":
				_, err = l.Offsets(t.Context())
			}
			var lost *span.TruncatedError
			if !errors.As(err, &lost) || lost.Acknowledged != 10 || lost.End != 6 {
				t.Fatalf("after the loss: %v (%+v)", err, lost)
			}
			if _, err := l.Read(t.Context(), span.ReadRequest{}); !errors.As(err, &lost) {
				t.Errorf("read after the loss was found: %v", err)
			}
			if a := appendSync(t, l, oneBatch(t, 1, "after")); !errors.As(a.Err, &lost) {
				t.Errorf("append after the loss was found: %v", a.Err)
			}
			s.Forget(topic, 0)
			if a := appendSync(t, l, oneBatch(t, 1, "after")); a.Err != nil || a.BaseOffset != 6 {
				t.Errorf("append after Forget: %+v", a)
			}
		})
	}
}

// TestRestartKeepsLog: a broker that restarts with its log whole is no truncation, whether the
// store noticed the change of epoch or not.
func TestRestartKeepsLog(t *testing.T) {
	c := testkit.Kafka(t)
	s := open(t, c)
	topic := create(t, s, 1, nil)
	l := s.Log(topic, 0)
	defer l.Release()
	st := startStream(t, l, 1<<41, 5, patience)
	for range 2 {
		st.waitAcks(30)
		if err := c.Node(1).Kill(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.Node(1).Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	st.waitAcks(30)
	st.finish()
	st.check()
	if len(st.failed)+len(st.unknown) > 0 {
		t.Errorf("failed: %v, unknown: %v", st.failed, st.unknown)
	}
	if s.Stats().Truncations != 0 {
		t.Error("a truncation was found that was none")
	}
}

// TestUncleanElection: the only replica that has what was acknowledged dies, and one that lags
// is made the leader.
func TestUncleanElection(t *testing.T) {
	c := testkit.Kafka(t, testkit.Nodes(3))
	s := open(t, c)
	adm := kadm.NewClient(c.Client(t))
	topic := span.Topic{Name: topicName()}
	if _, err := adm.CreateTopic(t.Context(), 1, 2, map[string]*string{"min.insync.replicas": kadm.StringPtr("1")}, topic.Name); err != nil {
		t.Fatal(err)
	}
	partition := func() kadm.PartitionDetail {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		d, err := adm.ListTopics(ctx, topic.Name)
		if err != nil {
			return kadm.PartitionDetail{Leader: -1}
		}
		topic.ID = d[topic.Name].ID
		return d[topic.Name].Partitions[0]
	}
	var first kadm.PartitionDetail
	waitFor(t, "both replicas", func() bool { first = partition(); return first.Leader > 0 && len(first.ISR) == 2 })
	leader := first.Leader
	follower := first.Replicas[0]
	if follower == leader {
		follower = first.Replicas[1]
	}
	l := s.Log(topic, 0)
	defer l.Release()
	for i := range 5 {
		if a := appendSync(t, l, producerBatch(t, 1<<41, 0, int32(i), 1, "both")); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	if err := c.Node(int(follower)).Kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "one replica in sync", func() bool { return len(partition().ISR) == 1 })
	for i := range 5 {
		if a := appendSync(t, l, producerBatch(t, 1<<41, 0, int32(5+i), 1, "one")); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	if err := c.Node(int(leader)).Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Node(int(follower)).Start(ctx); err != nil {
		t.Fatal(err)
	}
	set := kadm.TopicsSet{}
	set.Add(topic.Name, 0)
	waitFor(t, "the unclean election", func() bool {
		try, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, _ = adm.ElectLeaders(try, kadm.ElectLiveReplica, set) // what counts is who leads
		return partition().Leader == follower
	})
	a := appendSync(t, l, producerBatch(t, 1<<41, 0, 10, 1, "after"))
	var lost *span.TruncatedError
	if !errors.As(a.Err, &lost) || lost.Acknowledged != 10 || lost.End != 5 {
		t.Fatalf("append after an unclean election: %v", a.Err)
	}
}
