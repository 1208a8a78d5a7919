package catalog

import (
	"bytes"
	"errors"
	"testing"
)

// What a page's chains newly refer to is there with the page, whatever its size; a
// commit that is refused leaves nothing behind that went along with it.
func TestCommitTakesStatesAlong(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "t"}, chains(PageSize)))(t)
	_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
	if err != nil {
		t.Fatal(err)
	}
	page := pages[0]
	sizes := map[int]int{0: 1, 1: 100, 2: blobChunk, 3: blobChunk + 1, 4: blobChunk, 5: 3 * blobChunk}
	for p := range page.Chains {
		n, ok := sizes[p]
		if !ok {
			n = 50
		}
		ref := NewProducersRef(topic.ID, int32(p), 0)
		page.Chains[p].Sealed = ref
		page.States = append(page.States, StoredState{Ref: ref, Blob: bytes.Repeat([]byte{byte(p)}, n)})
	}
	stale := page
	stale.Revision--
	stale.States = []StoredState{{Ref: NewProducersRef(topic.ID, 99, 0), Blob: []byte("x")}}
	commit := func(p Page) error {
		return c.CommitPages(t.Context(), CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: []Page{p}})
	}
	if err := commit(stale); !errors.Is(err, ErrConflict) {
		t.Fatalf("old page: %v", err)
	}
	if _, err := c.Producers(t.Context(), stale.States[0].Ref); !errors.Is(err, ErrNotFound) {
		t.Errorf("state of a commit that was refused: %v", err)
	}
	if err := commit(page); err != nil {
		t.Fatal(err)
	}
	for _, s := range page.States {
		if got := must(c.Producers(t.Context(), s.Ref))(t); !bytes.Equal(got, s.Blob) {
			t.Errorf("%s: %d bytes came back as %d", s.Ref, len(s.Blob), len(got))
		}
	}
}

// Alarms that were read ahead of a commit stand in for those at its moment: one
// that came since refuses it, one on another topic or an older one does not.
func TestLaterAlarmRefusesCommit(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "t"}, chains(2)))(t)
	alarm := func(id ID, partition int32) {
		if err := c.PutAlarm(t.Context(), Alarm{Topic: TopicRef{Tenant: tenant, ID: id}, Partition: partition}); err != nil {
			t.Fatal(err)
		}
	}
	read := func() int64 {
		_, at, err := c.AlarmsOf(t.Context(), topic.ID)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	commit := func(at int64) error {
		_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
		if err != nil {
			t.Fatal(err)
		}
		pages[0].Chains[0].Start++
		return c.CommitPages(t.Context(), CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: pages, AlarmsAt: at})
	}
	none := read()
	alarm(RandomID(), 0)
	if err := commit(none); err != nil {
		t.Errorf("alarm on another topic: %v", err)
	}
	alarm(topic.ID, 0)
	if err := commit(none); !errors.Is(err, ErrConflict) {
		t.Errorf("a later alarm: %v", err)
	}
	one := read()
	if err := commit(one); err != nil {
		t.Errorf("an alarm that was read: %v", err)
	}
	alarm(topic.ID, 0) // again
	if err := commit(one); !errors.Is(err, ErrConflict) {
		t.Errorf("an alarm that was raised again: %v", err)
	}
}
