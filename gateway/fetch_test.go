package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/batch"
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/wire"
)

// put appends one record to a partition.
func put(r *raw, topic string, part int32, value string) {
	r.tb.Helper()
	p := do[*kmsg.ProduceResponse](r, 9, produceRequest(topic, [16]byte{}, -1, map[int32][]byte{part: records(r.tb, nil, value)})).Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		r.tb.Fatal(wire.Code(p.ErrorCode))
	}
}

// told lists what a Fetch answered: partition to values.
func told(tb testing.TB, resp *kmsg.FetchResponse) map[int32][]string {
	tb.Helper()
	out := map[int32][]string{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out[p.Partition] = append(out[p.Partition], []string{}...)
			for rec, err := range recordsOf(p.RecordBatches) {
				if err != nil {
					tb.Fatal(err)
				}
				out[p.Partition] = append(out[p.Partition], rec)
			}
		}
	}
	return out
}

func recordsOf(run []byte) func(func(string, error) bool) {
	return func(yield func(string, error) bool) {
		for _, b := range batch.Walk(run) {
			for rec, err := range batch.Records(b, 1<<20) {
				if !yield(string(rec.Value), err) {
					return
				}
			}
		}
	}
}

// sessionFetch is a Fetch within a session; offsets name what is added or changed.
func sessionFetch(id, epoch int32, topic string, offsets map[int32]int64) *kmsg.FetchRequest {
	req := fetchRequest(topic, [16]byte{}, offsets)
	req.SessionID, req.SessionEpoch = id, epoch
	if len(offsets) == 0 {
		req.Topics = nil
	}
	return req
}

func TestFetchSession(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("s", 3)
	r := f.raw()
	put(r, "s", 0, "a")
	full := do[*kmsg.FetchResponse](r, 12, sessionFetch(0, 0, "s", map[int32]int64{0: 0, 1: 0, 2: 0}))
	if full.ErrorCode != 0 || full.SessionID == 0 || len(told(t, full)) != 3 {
		t.Fatalf("full fetch: %+v", full)
	}
	id := full.SessionID
	// Nothing new: the partition with a record gave it already, and is asked again at its old offset.
	next := do[*kmsg.FetchResponse](r, 12, sessionFetch(id, 1, "s", map[int32]int64{0: 1}))
	if next.SessionID != id || len(told(t, next)) != 0 {
		t.Errorf("incremental fetch with nothing new: %+v", next)
	}
	put(r, "s", 1, "b")
	next = do[*kmsg.FetchResponse](r, 12, sessionFetch(id, 2, "s", nil))
	if got := told(t, next); len(got) != 1 || fmt.Sprint(got[1]) != "[b]" {
		t.Errorf("incremental fetch: %v", got)
	}
	// Not advanced: it comes again.
	next = do[*kmsg.FetchResponse](r, 12, sessionFetch(id, 3, "s", nil))
	if got := told(t, next); fmt.Sprint(got[1]) != "[b]" {
		t.Errorf("asked again: %v", got)
	}
	// Forgotten partitions are not told.
	req := sessionFetch(id, 4, "s", map[int32]int64{0: 0})
	ft := kmsg.NewFetchRequestForgottenTopic()
	ft.Topic, ft.Partitions = "s", []int32{1, 2}
	req.ForgottenTopics = append(req.ForgottenTopics, ft)
	next = do[*kmsg.FetchResponse](r, 12, req)
	if got := told(t, next); len(got) != 1 || fmt.Sprint(got[0]) != "[a]" {
		t.Errorf("after forgetting: %v", got)
	}
	// Wrong epoch, wrong session, wrong kind of names.
	for _, c := range []struct {
		version   int16
		id, epoch int32
		want      wire.Code
	}{{12, id, 17, wire.InvalidFetchSessionEpoch}, {12, id + 1, 1, wire.FetchSessionIDNotFound}, {13, id, 5, wire.FetchSessionTopicIDError}} {
		got := do[*kmsg.FetchResponse](r, c.version, sessionFetch(c.id, c.epoch, "s", nil))
		if wire.Code(got.ErrorCode) != c.want || len(got.Topics) != 0 {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	// The session is still good, and ends with a full fetch that names it.
	if got := do[*kmsg.FetchResponse](r, 12, sessionFetch(id, 5, "s", nil)); got.ErrorCode != 0 {
		t.Errorf("%+v", got)
	}
	if got := do[*kmsg.FetchResponse](r, 12, sessionFetch(id, -1, "s", map[int32]int64{0: 0})); got.SessionID != 0 || len(got.Topics) != 1 {
		t.Errorf("final fetch: %+v", got)
	}
	if got := do[*kmsg.FetchResponse](r, 12, sessionFetch(id, 6, "s", nil)); wire.Code(got.ErrorCode) != wire.FetchSessionIDNotFound {
		t.Errorf("%+v", got)
	}
	if n := f.gateways[0].sessionSlots.sessions.Used(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// A partition with an error is told each time, and again when it is well.
func TestFetchSessionErrors(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	r := f.raw()
	full := do[*kmsg.FetchResponse](r, 12, sessionFetch(0, 0, "later", map[int32]int64{0: 0}))
	code := func(resp *kmsg.FetchResponse) wire.Code { return wire.Code(resp.Topics[0].Partitions[0].ErrorCode) }
	if code(full) != wire.UnknownTopicOrPartition {
		t.Fatalf("%+v", full)
	}
	if got := do[*kmsg.FetchResponse](r, 12, sessionFetch(full.SessionID, 1, "later", nil)); code(got) != wire.UnknownTopicOrPartition {
		t.Fatalf("%+v", got)
	}
	f.topic("later", 1)
	got := do[*kmsg.FetchResponse](r, 12, sessionFetch(full.SessionID, 2, "later", nil))
	if len(got.Topics) != 1 || code(got) != wire.None || got.Topics[0].Partitions[0].HighWatermark != 0 {
		t.Errorf("after the topic was made: %+v", got)
	}
	// Made anew under the same name: another topic, from the start.
	put(r, "later", 0, "old")
	f.deleteTopic("later")
	f.topic("later", 1)
	put(r, "later", 0, "new")
	got = do[*kmsg.FetchResponse](r, 12, sessionFetch(full.SessionID, 3, "later", nil))
	if v := told(t, got); fmt.Sprint(v[0]) != "[new]" {
		t.Errorf("after it was made anew: %v", v)
	}
}

func TestFetchWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, gateways(2))
	f.topic("w", 2)
	r, other, third := f.rawTo(0), f.rawTo(0), f.rawTo(1)
	req := fetchRequest("w", [16]byte{}, map[int32]int64{0: 0, 1: 0})
	const long = int32(2 * patience / time.Millisecond) // longer than the connection waits
	req.MaxWaitMillis = long
	req.SetVersion(12)
	for i, from := range []*raw{other, third} {
		corr := r.send(req)
		// The long poll is woken by an append, through this gateway or another.
		put(from, "w", 1, fmt.Sprint(i))
		resp := r.receive(req, corr).(*kmsg.FetchResponse)
		if got := told(t, resp); fmt.Sprint(got[1]) != fmt.Sprintf("[%d]", i) {
			t.Errorf("%v", got)
		}
		req.Topics[0].Partitions = nil
		for p, o := range map[int32]int64{0: 0, 1: int64(i) + 1} {
			part := kmsg.NewFetchRequestTopicPartition()
			part.Partition, part.FetchOffset, part.PartitionMaxBytes = p, o, 1<<20
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, part)
		}
	}
	// Time up.
	req.MaxWaitMillis = 150
	start := time.Now()
	resp := r.receive(req, r.send(req)).(*kmsg.FetchResponse)
	if d := time.Since(start); d < 140*time.Millisecond || len(told(t, resp)) != 2 {
		t.Errorf("after %v: %v", d, told(t, resp))
	}
	// min bytes counts what is there already.
	req.MinBytes, req.MaxWaitMillis = 600, long
	corr := r.send(req)
	for range 10 {
		put(other, "w", 0, strings.Repeat("x", 100))
	}
	got := told(t, r.receive(req, corr).(*kmsg.FetchResponse))
	if n := len(got[0]); n < 3 || n > 10 {
		t.Errorf("min bytes: %d records", n)
	}
}

func TestFetchLimits(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.topic("big", 2)
	r := f.raw()
	for i := range 6 {
		put(r, "big", 0, strings.Repeat(fmt.Sprint(i), 10_000))
		put(r, "big", 1, strings.Repeat(fmt.Sprint(i), 10_000))
	}
	fetch := func(total, part int32) (int, int) {
		req := fetchRequest("big", [16]byte{}, map[int32]int64{0: 0})
		p := req.Topics[0].Partitions[0]
		p.Partition = 1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, p)
		req.MaxBytes = total
		for i := range req.Topics[0].Partitions {
			req.Topics[0].Partitions[i].PartitionMaxBytes = part
		}
		got := told(t, do[*kmsg.FetchResponse](r, 12, req))
		return len(got[0]), len(got[1])
	}
	for _, c := range []struct {
		total, part int32
		want        [2]int
	}{
		{1 << 20, 1 << 20, [2]int{6, 6}},
		{1 << 20, 25_000, [2]int{2, 2}},
		{35_000, 1 << 20, [2]int{3, 0}},
		{1, 1, [2]int{1, 0}}, // the first batch comes whole
		{1 << 20, 1, [2]int{1, 1}},
	} {
		if a, b := fetch(c.total, c.part); a != c.want[0] || b != c.want[1] {
			t.Errorf("max bytes %d and %d: %d and %d batches, want %v", c.total, c.part, a, b, c.want)
		}
	}
	// In a session the one that was left out is the first next time.
	full := sessionFetch(0, 0, "big", map[int32]int64{0: 0, 1: 0})
	full.MaxBytes = 1
	first := do[*kmsg.FetchResponse](r, 12, full)
	turn := sessionFetch(first.SessionID, 1, "big", nil)
	turn.MaxBytes = 1
	second := do[*kmsg.FetchResponse](r, 12, turn)
	a, b := told(t, first), told(t, second)
	if len(a[0])+len(a[1]) != 1 || len(b[0])+len(b[1]) != 1 || len(a[0]) == len(b[0]) {
		t.Errorf("%d and %d records, then %d and %d", len(a[0]), len(a[1]), len(b[0]), len(b[1]))
	}
}

func TestFetchEpochsAndOffsets(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	topic := f.topic("e", 1)
	r := f.raw()
	put(r, "e", 0, "a")
	for _, c := range []struct {
		name    string
		version int16
		edit    func(*kmsg.FetchRequestTopicPartition)
		want    wire.Code
	}{
		{"current epoch", 12, func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 7 }, wire.None},
		{"old epoch", 12, func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 6 }, wire.FencedLeaderEpoch},
		{"newer epoch", 12, func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 8 }, wire.UnknownLeaderEpoch},
		{"past the end", 12, func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = 100 }, wire.OffsetOutOfRange},
		{"negative", 12, func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = -5 }, wire.OffsetOutOfRange},
		{"unknown partition", 12, func(p *kmsg.FetchRequestTopicPartition) { p.Partition = 9 }, wire.UnknownTopicOrPartition},
		{"by id", 13, func(p *kmsg.FetchRequestTopicPartition) {}, wire.None},
		{"unknown partition by id", 13, func(p *kmsg.FetchRequestTopicPartition) { p.Partition = 9 }, wire.UnknownTopicOrPartition},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.tb = t
			req := fetchRequest("e", topic.ID, map[int32]int64{0: 0})
			c.edit(&req.Topics[0].Partitions[0])
			var p kmsg.FetchResponseTopicPartition
			eventually(t, func() error {
				p = do[*kmsg.FetchResponse](r, c.version, req).Topics[0].Partitions[0]
				if p.ErrorCode == 0 && len(p.RecordBatches) == 0 {
					return errors.New("no records, and not proved in the request's time that there are none")
				}
				return nil
			})
			if wire.Code(p.ErrorCode) != c.want {
				t.Errorf("%v, want %v", wire.Code(p.ErrorCode), c.want)
			}
			if p.PreferredReadReplica != -1 || p.CurrentLeader.LeaderID != -1 {
				t.Errorf("%+v", p)
			}
		})
	}
	got := do[*kmsg.FetchResponse](r, 13, fetchRequest("", [16]byte{9}, map[int32]int64{0: 0}))
	if wire.Code(got.Topics[0].Partitions[0].ErrorCode) != wire.UnknownTopicID {
		t.Errorf("unknown id: %+v", got)
	}
	committed := fetchRequest("e", topic.ID, map[int32]int64{0: 0})
	committed.IsolationLevel = 1
	p := do[*kmsg.FetchResponse](r, 13, committed).Topics[0].Partitions[0]
	if p.AbortedTransactions == nil || p.LastStableOffset != 1 {
		t.Errorf("committed read: %+v", p)
	}
	follower := fetchRequest("e", topic.ID, map[int32]int64{0: 0})
	follower.ReplicaID = 1
	if p := do[*kmsg.FetchResponse](r, 12, follower).Topics[0].Partitions[0]; wire.Code(p.ErrorCode) != wire.NotLeaderOrFollower {
		t.Errorf("follower: %+v", p)
	}
	tool := fetchRequest("e", topic.ID, map[int32]int64{0: 0})
	tool.ReplicaID = debuggingConsumer
	if p := do[*kmsg.FetchResponse](r, 12, tool).Topics[0].Partitions[0]; p.ErrorCode != 0 || len(p.RecordBatches) == 0 {
		t.Errorf("debugging consumer: %+v", p)
	}
}

// Sessions are bounded: further fetches work without one.
func TestFetchSessionsAreBounded(t *testing.T) {
	t.Parallel()
	f := newFleet(t, withConfig(func(c *Config) { c.FetchSessions, c.SessionPartitions = 2, 3 }))
	f.topic("b", 4)
	a, b := f.raw(), f.raw()
	for i, c := range []struct {
		r       *raw
		parts   map[int32]int64
		session bool
	}{
		{a, map[int32]int64{0: 0, 1: 0}, true},
		{b, map[int32]int64{0: 0, 1: 0}, false}, // partitions
		{b, map[int32]int64{0: 0}, true},
		{a, map[int32]int64{0: 0}, false}, // sessions
	} {
		got := do[*kmsg.FetchResponse](c.r, 12, sessionFetch(0, 0, "b", c.parts))
		if (got.SessionID != 0) != c.session || len(told(t, got)) != len(c.parts) {
			t.Errorf("%d: session %d, %v", i, got.SessionID, told(t, got))
		}
	}
	_ = a.nc.Close()
	_ = b.nc.Close()
	eventually(t, func() error {
		if s := &f.gateways[0].sessionSlots; s.sessions.Used() != 0 || s.parts.Used() != 0 {
			return fmt.Errorf("%d sessions, %d partitions", s.sessions.Used(), s.parts.Used())
		}
		return nil
	})
}

// A tenant that fetches partitions that are not there, without end, leaves sessions to others, also to those who come later.
func TestTenantsShareFetchSessions(t *testing.T) {
	t.Parallel()
	f := newFleet(t, secure(Security{Mechanisms: mechanisms, Demand: true}), withConfig(func(c *Config) {
		c.FetchSessions, c.SessionPartitions = 64, 100
	}))
	f.acme(0)
	f.topic("b", 4)
	f.user(catalog.DefaultTenant, "ann", "secret")
	sign := func(user string) *raw {
		r := f.raw()
		if resp := r.signOn(as(user, "secret")); resp.ErrorCode != 0 {
			t.Fatal(wire.Code(resp.ErrorCode))
		}
		return r
	}
	unknown := map[int32]int64{}
	for i := range int32(10) {
		unknown[1000+i] = 0
	}
	held := 0
	for range 12 {
		if got := do[*kmsg.FetchResponse](sign("joe"), 11, sessionFetch(0, 0, "nothing", unknown)); got.SessionID != 0 {
			held++
		}
	}
	s := &f.gateways[0].sessionSlots
	if n := s.parts.Used(); held != 5 || n != 50 {
		t.Errorf("%d sessions of %d partitions", held, n)
	}
	if got := do[*kmsg.FetchResponse](sign("ann"), 12, sessionFetch(0, 0, "b", map[int32]int64{0: 0, 1: 0})); got.SessionID == 0 {
		t.Error("another tenant has no session")
	}
}
