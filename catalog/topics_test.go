package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestTopicLifecycle(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	w := watch(t, c, tenant)
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "orders"}, chains(40)))(t)
	if _, err := c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "orders"}, chains(1)); !errors.Is(err, ErrExists) {
		t.Errorf("second of that name: %v", err)
	}
	s := must(w.Refresh(t.Context()))(t)
	if got := s.TopicByName(tenant, "orders"); got == nil || got.ID != topic.ID || got.Partitions != 40 {
		t.Fatalf("in the snapshot: %+v", got)
	}
	if ch, rev := s.Chain(topic.ID, 39); ch == nil || rev == 0 || ch.Spans[0].Copies[0].Partition != 39 {
		t.Errorf("chain 39: %+v at %d", ch, rev)
	}
	if ch, _ := s.Chain(topic.ID, 40); ch != nil {
		t.Error("a chain past the last partition")
	}

	grown := must(c.GrowTopic(t.Context(), topic, chains(70)[40:]))(t)
	if _, err := c.GrowTopic(t.Context(), topic, chains(1)); !errors.Is(err, ErrConflict) {
		t.Errorf("growth at an old revision: %v", err)
	}
	_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
	if err != nil || len(pages) != 3 || len(pages[1].Chains) != 32 || len(pages[2].Chains) != 6 {
		t.Fatalf("pages after growth: %d, %v", len(pages), err)
	}
	for i := range 70 {
		if got := pages[i/PageSize].Chains[i%PageSize].Spans[0].Copies[0].Partition; got != int32(i) {
			t.Fatalf("chain %d has copy %d", i, got)
		}
	}

	marked := must(c.MarkDeleting(t.Context(), grown))(t)
	again := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "orders"}, chains(1)))(t)
	s = must(w.Refresh(t.Context()))(t)
	if got := s.TopicByName(tenant, "orders"); got == nil || got.ID != again.ID {
		t.Errorf("by name after delete and create: %+v", got)
	}
	if got := s.TopicByID(topic.ID); got == nil || !got.Deleting {
		t.Errorf("the topic being deleted: %+v", got)
	}
	if err := c.RemoveTopic(t.Context(), marked, Fence{}); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveTopic(t.Context(), marked, Fence{}); err != nil {
		t.Errorf("second removal: %v", err)
	}
	s = must(w.Refresh(t.Context()))(t)
	if s.TopicByID(topic.ID) != nil || s.TopicCount(tenant) != 1 {
		t.Error("the removed topic is still seen")
	}
	if _, _, err := c.Chains(t.Context(), tenant, topic.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("chains of a removed topic: %v", err)
	}
}

// A topic of ten thousand partitions does not fit one transaction; it is seen
// whole or not at all.
func TestLargeTopicIsSeenWhole(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	w := watch(t, c, tenant)
	var bad error
	defer w.OnChange(func(ch Change) {
		if topic := ch.New.TopicByName(tenant, "big"); topic != nil {
			for p := range topic.Partitions {
				if chain, _ := ch.New.Chain(topic.ID, p); chain == nil {
					bad = fmt.Errorf("partition %d has no chain", p)
				}
			}
		}
	})()
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "big"}, chains(10_000)))(t)
	if _, err := c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "big"}, chains(10_000)); !errors.Is(err, ErrExists) {
		t.Errorf("second of that name: %v", err)
	}
	s := must(w.Refresh(t.Context()))(t)
	if bad != nil {
		t.Error(bad)
	}
	if len(s.Chains(topic.ID)) != 10_000 {
		t.Error("not all chains")
	}
}

// A commit of more pages than one transaction takes, cut off in the middle and
// repeated as it was, ends as if it had run once.
func TestCommitPages(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "t"}, chains(200)))(t)
	read := func() (Topic, []Page) {
		topic, pages, err := c.Chains(t.Context(), tenant, topic.ID)
		if err != nil {
			t.Fatal(err)
		}
		return topic, pages
	}
	seal := func(pages []Page) {
		for i := range pages {
			for j := range pages[i].Chains {
				pages[i].Chains[j].Start += 7
			}
		}
	}
	l := must(c.Campaign(t.Context(), tenant, "me"))(t)
	ext := must(c.CreateExtend(t.Context(), Extend{Op: "one", Topic: TopicRef{tenant, "t", topic.ID}, Step: StepRead, TopicRevision: topic.Revision}, l.Fence()))(t)
	_, err := c.CreateExtend(t.Context(), Extend{Op: "two", Topic: TopicRef{tenant, "t", topic.ID}, TopicRevision: topic.Revision}, l.Fence())
	if busy := (*BusyError)(nil); !errors.As(err, &busy) || busy.Op != "one" || !errors.Is(err, ErrExists) {
		t.Errorf("second extend: %v", err)
	}
	if _, err := c.GrowTopic(t.Context(), topic, chains(1)); !errors.Is(err, ErrExists) {
		t.Errorf("growth during an extend: %v", err)
	}

	_, pages := read()
	seal(pages)
	first := slices.Clone(pages)
	ext.Step = StepCertify
	half := CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: slices.Clone(pages[:3]), Fence: l.Fence()}
	if err := c.CommitPages(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	if half.Pages[0].Revision <= first[0].Revision {
		t.Error("a committed page did not get its new revision")
	}
	for range 2 {
		e := ext
		whole := CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: slices.Clone(first), Fence: l.Fence(), Extend: &e}
		if err := c.CommitPages(t.Context(), whole); err != nil {
			t.Fatal(err)
		}
		if e.Revision <= ext.Revision {
			t.Error("the extend did not get its new revision")
		}
	}
	_, now := read()
	for _, p := range now {
		for _, ch := range p.Chains {
			if ch.Start != 7 {
				t.Fatalf("start is %d", ch.Start)
			}
		}
	}

	commit := func(change func(*CommitRequest)) error {
		topic, pages := read()
		seal(pages)
		req := CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: pages[:1], Fence: l.Fence()}
		change(&req)
		return c.CommitPages(t.Context(), req)
	}
	if err := commit(func(r *CommitRequest) { r.Pages[0].Revision-- }); !errors.Is(err, ErrConflict) {
		t.Errorf("old page revision: %v", err)
	}
	if err := commit(func(r *CommitRequest) { r.TopicRevision-- }); !errors.Is(err, ErrConflict) {
		t.Errorf("old topic revision: %v", err)
	}
	if err := commit(func(r *CommitRequest) { r.Extend = &Extend{Topic: TopicRef{tenant, "t", topic.ID}, Revision: 1} }); !errors.Is(err, ErrConflict) {
		t.Errorf("old extend: %v", err)
	}
	if err := l.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := commit(func(*CommitRequest) {}); !errors.Is(err, ErrFenced) {
		t.Errorf("after the leadership ended: %v", err)
	}
	next := must(c.Campaign(t.Context(), tenant, "you"))(t)
	if err := commit(func(*CommitRequest) {}); !errors.Is(err, ErrFenced) {
		t.Errorf("under another leader: %v", err)
	}
	if who := must(c.Leader(t.Context(), tenant))(t); who != "you" {
		t.Errorf("leader is %q", who)
	}
	if err := next.Resign(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPageOfLongChainsFits(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	long := chains(PageSize)
	for i := range long {
		for s := range 255 {
			sp := long[i].Spans[0]
			sp.Copies = []Copy{{Cluster: "east-1", Topic: "braid.abcdef.default.some-topic-name." + RandomName(12), TopicID: RandomID(),
				Map: []Piece{{int64(s), int64(s * 1000)}}}}
			sp.Seq, sp.Producers, sp.SealedAt = int32(s), RandomName(40), time.Now()
			long[i].Spans = append(long[i].Spans, sp)
		}
	}
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "long"}, long))(t)
	_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
	if err != nil || len(pages[0].Chains[5].Spans) != 256 {
		t.Errorf("%v", err)
	}
}

func TestProducersInChunks(t *testing.T) {
	c := open(t)
	id := RandomID()
	for _, n := range []int{0, 1, blobChunk, blobChunk + 1, 5*blobChunk + 3} {
		blob := bytes.Repeat([]byte{byte(n), 1, 2}, (n+2)/3)[:n]
		ref := must(c.PutProducers(t.Context(), id, 3, 9, blob))(t)
		got := must(c.Producers(t.Context(), ref))(t)
		if !bytes.Equal(got, blob) {
			t.Errorf("%d bytes came back as %d", n, len(got))
		}
	}
	refs := must(c.ProducerRefs(t.Context(), id))(t)
	if len(refs) != 4 {
		t.Errorf("references: %v", refs)
	}
	for _, r := range refs {
		if err := c.DeleteProducers(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Producers(t.Context(), r); !errors.Is(err, ErrNotFound) {
			t.Errorf("after delete: %v", err)
		}
	}
}

func TestOpsAreBounded(t *testing.T) {
	c := open(t)
	at := time.Now().Add(-time.Hour)
	running := must(c.CreateOp(t.Context(), Op{Kind: OpMove, Created: at}))(t)
	var last Op
	for i := range finishedOps + 5 {
		op := must(c.CreateOp(t.Context(), Op{Kind: OpMove, State: OpDone, Created: at.Add(time.Duration(i+1) * time.Second)}))(t)
		last = op
	}
	must(c.UpdateOp(t.Context(), last, Fence{}))(t)
	ops := must(c.Ops(t.Context()))(t)
	if len(ops) != finishedOps+1 || ops[0].ID != running.ID || ops[len(ops)-1].ID != last.ID {
		t.Errorf("%d operations, first %s, last %s", len(ops), ops[0].ID, ops[len(ops)-1].ID)
	}
}

func TestReports(t *testing.T) {
	c := open(t)
	id := RandomID()
	reports := []AckReport{{Node: 1, Partition: 0, Span: 0}, {Node: 2, Partition: 0, Span: 1}, {Node: 1, Partition: 1, Span: 0, Tail: make([]AckedBatch, 100)}}
	if err := c.PutAckReports(t.Context(), id, reports); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteAckReports(t.Context(), id, 0, 0, 1); err != nil {
		t.Fatal(err)
	}
	got := must(c.AckReports(t.Context(), id))(t)
	if len(got) != 2 || got[0].Span != 1 || len(got[1].Tail) != maxTail {
		t.Errorf("%+v", got)
	}
	ref := TopicRef{"x", "t", id}
	for _, op := range []string{"b", "a", "b"} {
		if err := c.PutCertificate(t.Context(), Certificate{Op: op, Topic: ref}, Fence{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := must(c.Certificates(t.Context(), id))(t); len(got) != 2 || got[0].Op != "a" {
		t.Errorf("%+v", got)
	}
	if err := c.PruneCertificates(t.Context(), id, 1); err != nil {
		t.Fatal(err)
	}
	if got := must(c.Certificates(t.Context(), id))(t); len(got) != 1 || got[0].Op != "b" {
		t.Errorf("after pruning: %+v", got)
	}
	if err := c.PutAlarm(t.Context(), Alarm{Topic: ref, Partition: 4}); err != nil {
		t.Fatal(err)
	}
	ours := func() []Alarm { // tests share a catalog
		return slices.DeleteFunc(must(c.Alarms(t.Context()))(t), func(a Alarm) bool { return a.Topic.ID != id })
	}
	alarms := ours()
	if len(alarms) != 1 || c.DeleteAlarm(t.Context(), alarms[0]) != nil || len(ours()) != 0 {
		t.Errorf("%+v", alarms)
	}
	for node := range int32(2) {
		if err := c.PutHoldAck(t.Context(), id, "op", HoldAck{Node: node, Next: []int64{5, -1}}); err != nil {
			t.Fatal(err)
		}
	}
	if got := must(c.HoldAcks(t.Context(), id, "op"))(t); len(got) != 2 || got[1].Next[0] != 5 {
		t.Errorf("%+v", got)
	}
}
