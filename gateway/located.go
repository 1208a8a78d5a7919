package gateway

import (
	"fmt"
	"iter"

	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// known finds a topic of the tenant in a snapshot by name; nil if there is none.
func known(s *catalog.Snapshot, tenant, name string) *catalog.Topic {
	if t := s.TopicByName(tenant, name); t != nil && !t.Deleting {
		return t
	}
	return nil
}

// caughtUp returns the view in which all the named topics are, asking the
// catalog first if this gateway has not heard of one.
func (call *call) caughtUp(names iter.Seq[string]) *view {
	v := call.c.view()
	for name := range names {
		if known(v.snapshot, call.tenant, name) == nil {
			call.g.fresh.refresh(call.ctx)
			return call.c.view()
		}
	}
	return v
}

// namesOf names what a request lists.
func namesOf[T any](list []T, name func(*T) string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range list {
			if !yield(name(&list[i])) {
				return
			}
		}
	}
}

// existing tells why a partition is none of the topic's; nil if it is one.
func existing(t *catalog.Topic, name string, partition int32) error {
	if t == nil {
		return &span.RejectedError{Code: wire.UnknownTopicOrPartition, Detail: fmt.Sprintf("No such topic as %.249s", name)}
	}
	if partition < 0 || partition >= t.Partitions {
		return &span.RejectedError{Code: wire.UnknownTopicOrPartition, Detail: fmt.Sprintf("No such partition as %s-%d", name, partition)}
	}
	return nil
}
