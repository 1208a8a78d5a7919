package local

import (
	"context"

	"github.com/braidstream/braid/span"
)

var _ span.Sizer = (*Store)(nil)

// Sizes implements [span.Sizer]: the batches in segments, and those that are still in
// the shared log only.
func (s *Store) Sizes(_ context.Context, pub span.Topic) ([]int64, error) {
	t, err := s.topic(pub)
	if err != nil {
		return nil, err
	}
	parts := t.partitions()
	sizes := make([]int64, len(parts))
	for i, p := range parts {
		sizes[i] = p.bytes()
	}
	return sizes, nil
}

func (p *partition) bytes() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var total int64
	for _, sg := range p.segs {
		total += sg.size - segHeaderSize
	}
	for i := range p.refs {
		if r := &p.refs[i]; r.base >= p.flushed {
			total += int64(r.size)
		}
	}
	return total
}
