package chain

import (
	"github.com/braidstream/braid/catalog"
	"github.com/braidstream/braid/span"
)

// forgetLoss lets what is left of a sealed span be read although its physical log
// went back once: the chain was extended past the lost range, and the span's end
// says what is left.
func (p *Partition) forgetLoss(s *catalog.Span) {
	for i := range s.Copies {
		c := &s.Copies[i]
		st, err := p.l.stores.Store(c.Cluster)
		if err != nil {
			p.l.log.Debug("no store for a sealed copy", "cluster", c.Cluster, "err", err)
			continue
		}
		if f, ok := st.(span.Forgetter); ok {
			f.Forget(span.Topic{Name: c.Topic, ID: c.TopicID}, c.Partition)
		}
	}
}
