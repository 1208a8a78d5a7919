package controller

import (
	"context"
	"errors"
	"slices"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/gateway"
)

// changeChains applies change to all chains of a topic and commits the pages that
// it changed, again after a conflict. change gets a chain whose spans and copies
// are its own to write, and tells whether it wrote.
func (t *term) changeChains(ctx context.Context, ref catalog.TopicRef, change func(partition int32, ch *catalog.Chain) bool) error {
	for {
		topic, pages, err := t.o.Catalog.Chains(ctx, ref.Tenant, ref.ID)
		if errors.Is(err, catalog.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var changed []catalog.Page
		for _, page := range pages {
			any := false
			for j := range page.Chains {
				ch := &page.Chains[j] // decoded for this call alone
				any = change(page.First+int32(j), ch) || any
			}
			if any {
				changed = append(changed, page)
			}
		}
		if len(changed) == 0 {
			return nil
		}
		err = t.o.Catalog.CommitPages(ctx, catalog.CommitRequest{Tenant: ref.Tenant, Topic: ref.ID, TopicRevision: topic.Revision,
			Pages: changed, Fence: t.driver.fence})
		if err == nil || !isConflict(err) || errors.Is(err, catalog.ErrFenced) {
			return err
		}
	}
}

// hideSealed lets readers of topics that prefer to go on skip the sealed spans of
// which every copy is on a cluster that is gone.
func (t *term) hideSealed(ctx context.Context, cluster string) error {
	s, err := t.o.Watcher.Refresh(ctx)
	if err != nil {
		return err
	}
	for topic := range s.AllTopics() {
		if topic.Deleting || !goesOn(topic) || !slices.ContainsFunc(s.Chains(topic.ID), func(ch *catalog.Chain) bool { return sealedOn(ch, cluster, false) }) {
			continue
		}
		ref := catalog.TopicRef{Tenant: topic.Tenant, Name: topic.Name, ID: topic.ID}
		// If it answers after all, as one that an operator gave up may, they are shown again.
		t.driver.losses.Add(1)
		err := t.changeChains(ctx, ref, func(_ int32, ch *catalog.Chain) bool { return mark(ch, cluster, true) })
		if err != nil {
			return err
		}
	}
	return nil
}

// goesOn tells whether a topic goes on without a cluster that is gone: there is nothing in one that is internal.
func goesOn(t *catalog.Topic) bool {
	return configOf(t.Config, ConfigGuarantee) == guaranteeAvailable || t.Tenant == catalog.SystemTenant || isInternal(t)
}

// isInternal tells of a topic that clients look for, as Kafka has it, and that nobody can write to.
func isInternal(t *catalog.Topic) bool { return gateway.InternalTopic(t.Name) }

// sealedOn tells whether a sealed span has a copy on the cluster with this mark, that is not gone for good.
func sealedOn(ch *catalog.Chain, cluster string, unreadable bool) bool {
	for i := range ch.Spans {
		for _, c := range ch.Spans[i].Copies {
			if !ch.Spans[i].IsOpen() && c.Cluster == cluster && c.Unreadable == unreadable && !c.Gone {
				return true
			}
		}
	}
	return false
}

// mark sets the marks of sealed copies on the cluster, but for those that are gone for good; it tells whether any changed.
func mark(ch *catalog.Chain, cluster string, unreadable bool) bool {
	any := false
	for i := range ch.Spans {
		for j := range ch.Spans[i].Copies {
			c := &ch.Spans[i].Copies[j]
			if !ch.Spans[i].IsOpen() && c.Cluster == cluster && c.Unreadable != unreadable && !c.Gone {
				c.Unreadable, any = unreadable, true
			}
		}
	}
	return any
}
