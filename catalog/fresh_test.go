package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// Small producers' states are at a watcher with the page that refers to them, and
// no longer in the page's next version.
func TestStatesComeWithTheirPage(t *testing.T) {
	c, tenant := open(t), tenantOf(t)
	topic := must(c.CreateTopic(t.Context(), Topic{Tenant: tenant, Name: "t"}, chains(3)))(t)
	w := must(c.Watch(t.Context(), Scope{}))(t)
	defer w.Close()
	commit := func(blobs ...[]byte) []string {
		_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
		if err != nil {
			t.Fatal(err)
		}
		var refs []string
		for p, blob := range blobs {
			ref := NewProducersRef(topic.ID, int32(p), 0)
			refs = append(refs, ref)
			pages[0].Chains[p].Sealed = ref
			pages[0].States = append(pages[0].States, StoredState{Ref: ref, Blob: blob})
		}
		pages[0].Chains[0].Start++
		if err := c.CommitPages(t.Context(), CommitRequest{Tenant: tenant, Topic: topic.ID, TopicRevision: topic.Revision, Pages: pages}); err != nil {
			t.Fatal(err)
		}
		must(w.RevisionAtLeast(t.Context(), pages[0].Revision))(t)
		return refs
	}
	large := bytes.Repeat([]byte("x"), freshPage)
	refs := commit([]byte("one"), []byte("two"), large)
	for p, want := range []string{"one", "two", ""} {
		got, ok := w.FreshProducers(refs[p])
		if string(got) != want || ok != (want != "") {
			t.Errorf("partition %d: %q, %v", p, got, ok)
		}
		if stored := must(c.Producers(t.Context(), refs[p]))(t); want != "" && string(stored) != want || want == "" && !bytes.Equal(stored, large) {
			t.Errorf("partition %d: %d bytes are stored", p, len(stored))
		}
	}
	commit()
	_, pages, err := c.Chains(t.Context(), tenant, topic.ID)
	if err != nil || len(pages[0].Fresh) > 0 {
		t.Errorf("the next version carries %d states: %v", len(pages[0].Fresh), err)
	}
	late := must(c.Watch(t.Context(), Scope{}))(t)
	defer late.Close()
	if _, ok := late.FreshProducers(refs[0]); ok {
		t.Error("a watcher has what no page carries")
	}
	if _, err := c.Producers(t.Context(), "none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown reference: %v", err)
	}
}

func TestFreshStatesAreBounded(t *testing.T) {
	var f fresh
	one := func(i int) string { return fmt.Sprint("ref-", i) }
	n := 3 * freshKept / freshPage
	for i := range n {
		p := &Page{Fresh: []StoredState{{Ref: one(i), Blob: make([]byte, freshPage)}}}
		f.take(p)
		f.take(&Page{Fresh: []StoredState{{Ref: one(i), Blob: make([]byte, freshPage)}}}) // a repeat
		if p.Fresh != nil {
			t.Fatal("the page still carries its states")
		}
	}
	size := 0
	for ref, b := range f.blobs {
		size += len(ref) + len(b)
	}
	if size > freshKept || size != f.size || len(f.refs) != len(f.blobs) {
		t.Errorf("%d bytes are kept, counted as %d, in %d entries of %d", size, f.size, len(f.blobs), len(f.refs))
	}
	if f.blobs[one(n-1)] == nil || f.blobs[one(0)] != nil {
		t.Error("not the last are kept")
	}
}
