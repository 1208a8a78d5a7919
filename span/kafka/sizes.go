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

var _ span.ManySizer = (*Store)(nil)

// sizesBatch is how many topics are measured by one request to each broker.
const sizesBatch = 1000

// Sizes implements [span.Sizer] by DescribeLogDirs at each partition's leader: the
// bytes of its segment files. It needs DESCRIBE on the cluster.
func (s *Store) Sizes(ctx context.Context, t span.Topic) ([]int64, error) {
	meta, err := s.meta.fresh(ctx, t)
	if err != nil {
		return nil, s.wrap("measure", t, err)
	}
	sizes, err := s.measure(ctx, []*topicMeta{meta})
	return sizes[0], s.wrap("measure", t, err)
}

// SizesOfMany implements [span.ManySizer]: one Metadata request and one
// DescribeLogDirs to each broker for up to a thousand topics.
func (s *Store) SizesOfMany(ctx context.Context, topics []span.Topic) map[[16]byte][]int64 {
	found := map[[16]byte][]int64{}
	for len(topics) > 0 && ctx.Err() == nil {
		some := topics[:min(len(topics), sizesBatch)]
		topics = topics[len(some):]
		asked := make([]*topicMeta, len(some))
		var wg sync.WaitGroup
		for i, t := range some {
			// Asked at the same time they share a request.
			wg.Go(func() {
				if m, err := s.meta.fresh(ctx, t); err == nil {
					asked[i] = m // else it stays unmeasured: that is the answer
				}
			})
		}
		wg.Wait()
		var metas []*topicMeta
		for _, m := range asked {
			if m != nil {
				metas = append(metas, m)
			}
		}
		// A broker that failed leaves its partitions unmeasured.
		sizes, _ := s.measure(ctx, metas)
		for i, m := range metas {
			found[m.id] = sizes[i]
		}
	}
	return found
}

// measure asks each broker once for all partitions that it leads. The sizes are by
// topic and partition, -1 where they were not told; then there may be an error.
func (s *Store) measure(ctx context.Context, metas []*topicMeta) ([][]int64, error) {
	sizes := make([][]int64, len(metas))
	at := make(map[string]int, len(metas))
	byLeader := map[int32]*kmsg.DescribeLogDirsRequest{}
	for i, m := range metas {
		at[m.name] = i
		sizes[i] = make([]int64, len(m.partitions))
		for p, meta := range m.partitions {
			sizes[i][p] = -1
			if meta.leader < 0 {
				continue
			}
			req := byLeader[meta.leader]
			if req == nil {
				req = kmsg.NewPtrDescribeLogDirsRequest()
				byLeader[meta.leader] = req
			}
			if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != m.name {
				rt := kmsg.NewDescribeLogDirsRequestTopic()
				rt.Topic = m.name
				req.Topics = append(req.Topics, rt)
			}
			rt := &req.Topics[len(req.Topics)-1]
			rt.Partitions = append(rt.Partitions, int32(p))
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var errs []error
	for node, req := range byLeader {
		b := s.broker(node)
		if b == nil {
			continue
		}
		wg.Go(func() {
			answer, err := sizesAt(ctx, b, req)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			for name, list := range answer {
				i, ok := at[name]
				if !ok {
					continue
				}
				for _, p := range list {
					if !p.IsFuture && p.Partition >= 0 && int(p.Partition) < len(sizes[i]) {
						sizes[i][p.Partition] = p.Size
					}
				}
			}
		})
	}
	wg.Wait()
	return sizes, errors.Join(errs...)
}

func sizesAt(ctx context.Context, b *broker, req *kmsg.DescribeLogDirsRequest) (map[string][]kmsg.DescribeLogDirsResponseDirTopicPartition, error) {
	resp, err := b.request(ctx, req, 1, 4)
	if err != nil {
		return nil, unavailable(err)
	}
	answer := resp.(*kmsg.DescribeLogDirsResponse)
	if code := wire.Code(answer.ErrorCode); code != wire.None {
		return nil, fmt.Errorf("broker %d: %w", b.node, asError(code))
	}
	found := map[string][]kmsg.DescribeLogDirsResponseDirTopicPartition{}
	for _, dir := range answer.Dirs {
		if code := wire.Code(dir.ErrorCode); code != wire.None {
			return nil, unavailable(fmt.Errorf("broker %d, a log directory: %w", b.node, code))
		}
		for _, rt := range dir.Topics {
			found[rt.Topic] = append(found[rt.Topic], rt.Partitions...)
		}
	}
	return found, nil
}
