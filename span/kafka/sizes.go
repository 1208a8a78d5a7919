package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

var _ span.Sizer = (*Store)(nil)

// Sizes implements [span.Sizer] by DescribeLogDirs at each partition's leader: the
// bytes of its segment files. It needs DESCRIBE on the cluster.
func (s *Store) Sizes(ctx context.Context, t span.Topic) ([]int64, error) {
	sizes, err := s.sizes(ctx, t)
	return sizes, s.wrap("measure", t, err)
}

func (s *Store) sizes(ctx context.Context, t span.Topic) ([]int64, error) {
	meta, err := s.meta.fresh(ctx, t)
	if err != nil {
		return nil, err
	}
	sizes := make([]int64, len(meta.partitions))
	byLeader := map[int32][]int32{}
	for i, p := range meta.partitions {
		sizes[i] = -1
		if p.leader >= 0 {
			byLeader[p.leader] = append(byLeader[p.leader], int32(i))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for node, partitions := range byLeader {
		b := s.broker(node)
		if b == nil {
			continue
		}
		wg.Go(func() {
			found, err := s.sizesAt(ctx, b, t, partitions)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			for p, n := range found {
				if int(p) < len(sizes) && p >= 0 {
					sizes[p] = n
				}
			}
		})
	}
	wg.Wait()
	return sizes, errors.Join(errs...)
}

func (s *Store) sizesAt(ctx context.Context, b *broker, t span.Topic, partitions []int32) (map[int32]int64, error) {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	rt := kmsg.NewDescribeLogDirsRequestTopic()
	rt.Topic, rt.Partitions = t.Name, partitions
	req.Topics = append(req.Topics, rt)
	resp, err := b.request(ctx, req, 1, 4)
	if err != nil {
		return nil, unavailable(err)
	}
	answer := resp.(*kmsg.DescribeLogDirsResponse)
	if code := wire.Code(answer.ErrorCode); code != wire.None {
		return nil, fmt.Errorf("broker %d: %w", b.node, asError(code))
	}
	found := map[int32]int64{}
	for _, dir := range answer.Dirs {
		if code := wire.Code(dir.ErrorCode); code != wire.None {
			return nil, unavailable(fmt.Errorf("broker %d, a log directory: %w", b.node, code))
		}
		for _, rt := range dir.Topics {
			if rt.Topic != t.Name {
				continue
			}
			for _, p := range rt.Partitions {
				if !p.IsFuture {
					found[p.Partition] = p.Size
				}
			}
		}
	}
	return found, nil
}
