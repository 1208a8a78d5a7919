package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/internal/testkit"
	"github.com/braidstream/braid/verify"
)

// TestGroupOutlivesItsCoordinator: a group over topics of three clusters goes on when the
// gateway that owns its coordinator is killed, again and again; no committed offset goes
// back and no record is skipped.
func TestGroupOutlivesItsCoordinator(t *testing.T) {
	east := testkit.Shared(t)
	up := startUp(t, "--set", "group.initial.rebalance.delay.ms=0")
	up.addCluster("east", east)
	var others []*running
	for range 2 {
		others = append(others, up.gateway("--set", "group.initial.rebalance.delay.ms=0"))
	}
	for name, on := range map[string]string{"group-a": "a", "group-b": "b", "group-east": "east"} {
		up.must("topic", "create", name, "--partitions", "2", "--cluster", on)
	}
	bootstrap := []string{up.ready.Kafka[0], others[0].ready.Kafka[0], others[1].ready.Kafka[0]}
	l := startLoad(t, bootstrap, 20*time.Millisecond, 2, "group-a", "group-b", "group-east")
	admin := kadm.NewClient(l.client())
	defer admin.Close()
	owner := func(group string) *running {
		t.Helper()
		var at string
		eventually(t, patience, "group "+group+" has a coordinator", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			r := admin.FindGroupCoordinators(ctx, group)[group]
			at = net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
			return r.Err == nil
		})
		for _, o := range others {
			if o.ready.Kafka[0] == at {
				return o
			}
		}
		return nil // the process that has the catalog
	}
	group := ""
	for i := 0; group == ""; i++ {
		if name := fmt.Sprintf("group-%d", i); owner(name) != nil {
			group = name
		}
		if i > 1000 {
			t.Fatal("no group has its coordinator on a further gateway")
		}
	}
	shared := &commitments{high: map[string]map[int32]int64{}}
	members := []*member{l.join(group, "one", shared), l.join(group, "two", shared)}
	for _, x := range l.topics {
		x.goesOn(t, "at first", patience)
	}
	commits := func() (n int64) {
		for _, m := range members {
			n += m.count()
		}
		return n
	}
	some := func(what string) {
		t.Helper()
		before := commits()
		eventually(t, patience, "the group commits "+what, func() bool { return commits() >= before+10 })
	}
	some("at first")
	for i := range movesWanted(t, 2, 20) {
		o := owner(group)
		if o == nil {
			o = others[i%2] // then this one's members only lose their connections
		}
		o.kill()
		some(fmt.Sprintf("after kill %d", i))
		o.start()
	}
	l.stop()
	l.senders.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.writer.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	// The group reads to the end, and its commits never went back.
	eventually(t, patience, "the group has committed everything", func() bool {
		lags, err := admin.Lag(ctx, group)
		lag := lags[group]
		if err != nil || lag.Error() != nil {
			return false
		}
		var names []string
		for _, lag := range lag.Lag.Sorted() {
			if lag.Lag != 0 || lag.Commit.At < shared.at(lag.Topic, lag.Partition) {
				return false
			}
			names = append(names, fmt.Sprintf("%s/%d", lag.Topic, lag.Partition))
		}
		return len(slices.Compact(names)) == 6
	})
	for _, m := range members {
		m.leave()
	}
	for _, x := range l.topics {
		for p := range x.partitions {
			x.history.GroupDone(group, p)
		}
	}
	for name, r := range l.end(2 * time.Minute) {
		if !r.OK() || !r.Complete() {
			t.Errorf("topic %s:\n%s", name, r)
		}
	}
}

// member is one of a group; what it reads goes into the load's histories.
type member struct {
	l      *load
	name   string
	group  string
	client *kgo.Client
	shared *commitments
	stop   context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	commits int64
}

// commitments is the highest offset that the group was told is committed, by partition.
type commitments struct {
	mu   sync.Mutex
	high map[string]map[int32]int64
}

func (c *commitments) at(topic string, partition int32) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.high[topic][partition]
}

// join adds a member to a group over all topics of the load.
func (l *load) join(group, name string, shared *commitments) *member {
	l.t.Helper()
	ctx, stop := context.WithCancel(l.t.Context())
	m := &member{l: l, name: name, group: group, shared: shared, stop: stop, done: make(chan struct{})}
	var topics []string
	for _, x := range l.topics {
		topics = append(topics, x.name)
	}
	m.client = l.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.OnPartitionsAssigned(m.assigned))
	go m.run(ctx)
	l.t.Cleanup(m.leave)
	return m
}

func (m *member) reader() verify.Reader { return verify.Reader{Name: m.name, Group: m.group} }

func (m *member) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	for topic, list := range parts {
		for _, p := range list {
			m.l.topic(topic).history.Assigned(m.reader(), p)
		}
	}
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	for again := false; ctx.Err() == nil; {
		// Nothing may come any more after the last commit, and that may have failed.
		wait := time.Hour
		if again {
			wait = time.Second
		}
		poll, cancel := context.WithTimeout(ctx, wait)
		fetches := m.client.PollRecords(poll, 500)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			if v, err := verify.ParseValue(string(r.Value)); err == nil && v.Producer == loadProducer {
				m.l.topic(r.Topic).history.Polled(m.reader(), r.Partition, r.Offset, v)
			}
		})
		switch {
		case fetches.NumRecords() > 0:
			again = !m.commit(ctx, fetches)
		case again:
			again = m.recommit(ctx) != nil
		}
		m.client.AllowRebalance()
	}
}

// commit commits what was just read. A commit that fails is made again with the next, or by recommit.
func (m *member) commit(ctx context.Context, fetches kgo.Fetches) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := m.client.CommitRecords(ctx, fetches.Records()...); err != nil {
		return false
	}
	m.shared.mu.Lock()
	fetches.EachRecord(func(r *kgo.Record) {
		if m.shared.high[r.Topic] == nil {
			m.shared.high[r.Topic] = map[int32]int64{}
		}
		m.shared.high[r.Topic][r.Partition] = max(m.shared.high[r.Topic][r.Partition], r.Offset+1)
	})
	m.shared.mu.Unlock()
	m.mu.Lock()
	m.commits++
	m.mu.Unlock()
	return true
}

// recommit commits what was read of the partitions that the member still has.
func (m *member) recommit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return m.client.CommitUncommittedOffsets(ctx)
}

func (m *member) count() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits
}

// leave ends the member.
func (m *member) leave() {
	m.stop()
	<-m.done
	m.client.CloseAllowingRebalance()
}
