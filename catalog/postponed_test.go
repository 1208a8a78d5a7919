package catalog

import (
	"errors"
	"maps"
	"slices"
	"testing"
)

// A certification that waits for a cluster is apart from those under way, and goes with its
// topic; ending a return may be repeated, and is not done to an extend that was changed.
func TestPostponed(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	topic := must(c.CreateTopic(ctx, Topic{Tenant: tenantOf(t) + RandomID().String(), Name: "orders"}, chains(1)))(t)
	ref := TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
	e := must(c.CreateExtend(ctx, Extend{Op: "1", Kind: OpReturn, Topic: ref, TopicRevision: topic.Revision}, Fence{}))(t)
	changed := e
	changed.Revision++
	if err := c.EndReturn(ctx, changed, Fence{}); !errors.Is(err, ErrConflict) {
		t.Errorf("an extend that was changed is ended: %v", err)
	}
	for range 2 {
		if err := c.EndReturn(ctx, e, Fence{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Extend(ctx, ref.Tenant, ref.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the extend is left: %v", err)
	}
	if list := must(c.CertificationsOf(ctx, ref.ID))(t); len(list) != 1 || list[0].Op != "1" {
		t.Errorf("%+v", list)
	}
	for range 2 {
		if err := c.Postpone(ctx, e, Fence{}); err != nil {
			t.Fatal(err)
		}
	}
	if list := must(c.CertificationsOf(ctx, ref.ID))(t); len(list) > 0 {
		t.Errorf("under way: %+v", list)
	}
	if list := must(c.Postponed(ctx, ref.ID))(t); len(list) != 1 || list[0].Op != "1" {
		t.Errorf("%+v", list)
	}
	if ids := must(c.PostponedTopics(ctx))(t); !slices.Contains(slices.Collect(maps.Keys(ids)), ref.ID) {
		t.Errorf("%v", ids)
	}
	if err := c.DeletePostponed(ctx, e, Fence{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Postpone(ctx, e, Fence{}); err != nil {
		t.Fatal(err)
	}
	if list := must(c.Postponed(ctx, ref.ID))(t); len(list) > 0 {
		t.Errorf("what is gone came back: %+v", list)
	}
}

// Reports of a range of spans go, and no others.
func TestDeleteAckReports(t *testing.T) {
	c := open(t)
	ctx, id := t.Context(), RandomID()
	var all []AckReport
	for p := range int32(2) {
		for seq := range int32(5) {
			all = append(all, AckReport{Partition: p, Span: seq})
		}
	}
	if err := c.PutAckReports(ctx, id, all); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int32{{0, 0}, {3, 2}, {1, 3}, {4, 5}} {
		if err := c.DeleteAckReports(ctx, id, 1, r[0], r[1]); err != nil {
			t.Fatal(err)
		}
	}
	var left []int32
	for _, r := range must(c.AckReports(ctx, id))(t) {
		left = append(left, r.Partition*10+r.Span)
	}
	if want := []int32{0, 1, 2, 3, 4, 10, 13}; !slices.Equal(left, want) {
		t.Errorf("%v, want %v", left, want)
	}
	if err := c.DropAckReports(ctx, id); err != nil {
		t.Fatal(err)
	}
}
