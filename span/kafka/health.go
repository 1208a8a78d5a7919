package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/braidstream/braid/span"
	"github.com/braidstream/braid/wire"
)

// grantFor is how long an answer about ALTER_CONFIGS is believed.
const grantFor = time.Minute

type sealGrant struct {
	can   bool
	asked time.Time
}

// Health implements [span.Store]. It asks every broker that is known for its
// versions, all at once, and one of them for the cluster's state; it takes
// Options.HealthTimeout at most, half as long again where half of the brokers or more are silent. Brokers counts those that the cluster has or
// had since the store was opened, Detail how many of them answered. The cluster
// is writable when it has a controller and most of its brokers answer: then
// partitions of those that do not are led by others. With fewer it is if all partitions are served that the store has to do with
// (see [Store.served]); brokers that have been gone for long meanwhile do not count any more.
func (s *Store) Health(ctx context.Context) (span.Health, error) {
	all := ctx
	ctx, cancel := context.WithTimeout(ctx, s.opts.HealthTimeout)
	defer cancel()
	begin := time.Now()
	state, err := s.describeCluster(ctx)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.noAnswer(begin)
		}
		return span.Health{Latency: time.Since(begin), Detail: err.Error()}, s.wrap("health of", span.Topic{Name: "cluster"}, err)
	}
	latency := time.Since(begin)
	s.meta.away.passed()
	answering, silent := s.countAnswering(ctx, state.Brokers)
	s.meta.mu.Lock()
	x := &s.meta.strength
	x.saw(len(state.Brokers))
	most := x.most(answering)
	s.meta.mu.Unlock()
	served, asked := 0, 0
	if !most && answering > 0 {
		more, cancel := context.WithTimeout(all, s.opts.HealthTimeout/2) // a silent broker has used up the other
		served, asked = s.served(more, silent)
		cancel()
	}
	s.meta.mu.Lock()
	writable := x.judge(time.Now(), len(state.Brokers), answering, served, asked)
	brokers := x.peak
	s.meta.mu.Unlock()
	h := span.Health{
		ClusterID: state.ClusterID, Brokers: brokers, Answering: answering, Latency: latency,
		Writable: state.ControllerID >= 0 && writable,
		Detail:   fmt.Sprintf("%d of %d brokers answer", answering, brokers),
	}
	if len(silent) > 0 {
		h.Detail += fmt.Sprintf("; silent: %v", silent)
	}
	if asked > 0 {
		h.Detail += fmt.Sprintf("; %d of %d partitions that were asked take appends", served, asked)
	}
	can, known := s.canSeal(ctx)
	h.CanSeal, h.SealUnknown = can, !known
	h.Kafka = s.kafkaRelease()
	return h, nil
}

// describeCluster asks the brokers all at once and takes the first answer: one
// that hangs must not make the check late.
func (s *Store) describeCluster(ctx context.Context) (*kmsg.DescribeClusterResponse, error) {
	list := s.candidates()
	const most = 5
	list = list[:min(len(list), most)]
	type answer struct {
		resp *kmsg.DescribeClusterResponse
		err  error
	}
	answers := make(chan answer, len(list))
	s.closeMu.RLock()
	if s.closed {
		s.closeMu.RUnlock()
		return nil, unavailable(errClosed)
	}
	for _, b := range list {
		s.spawn(func() {
			req := kmsg.NewPtrDescribeClusterRequest()
			resp, err := b.request(ctx, req, 0, 1)
			if err != nil {
				answers <- answer{err: err}
				return
			}
			r := resp.(*kmsg.DescribeClusterResponse)
			if code := wire.Code(r.ErrorCode); code != wire.None {
				err = asError(code)
			} else {
				err = s.meta.checkCluster(&r.ClusterID)
			}
			answers <- answer{r, err}
		})
	}
	s.closeMu.RUnlock()
	var errs []error
	for range list {
		a := <-answers
		if a.err == nil {
			return a.resp, nil
		}
		errs = append(errs, a.err)
	}
	return nil, unavailable(fmt.Errorf("%w: %w", errNoBroker, errors.Join(errs...)))
}

// maxPings bounds the brokers that one health check asks.
const maxPings = 20

// countAnswering asks brokers for their versions. Of many only some are asked, each
// time others; for the rest stands how they answered last.
func (s *Store) countAnswering(ctx context.Context, list []kmsg.DescribeClusterResponseBroker) (answering int, silent []int32) {
	known := make([]kmsg.MetadataResponseBroker, len(list))
	for i, b := range list {
		known[i] = kmsg.MetadataResponseBroker{NodeID: b.NodeID, Host: b.Host, Port: b.Port}
	}
	s.setBrokers(known)
	first := 0
	if len(list) > maxPings {
		first = int(s.turn.Add(maxPings)) % len(list)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	count := func(node int32, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if ok {
			answering++
		} else {
			silent = append(silent, node)
		}
	}
	for i := range list {
		node := list[(first+i)%len(list)].NodeID
		b := s.broker(node)
		if b == nil {
			continue
		}
		if i >= maxPings {
			count(node, b.failed.Load() == 0)
			continue
		}
		wg.Go(func() {
			req := kmsg.NewPtrApiVersionsRequest()
			req.ClientSoftwareName, req.ClientSoftwareVersion = "braid", "1"
			_, err := b.request(ctx, req, 3, 3)
			count(node, err == nil)
		})
	}
	wg.Wait()
	slices.Sort(silent)
	return answering, silent
}

// canSeal finds out whether ALTER_CONFIGS is granted. An authorizer is asked
// before the topic is looked for, so a config that is only validated, of a topic
// that does not exist where none is known, tells without a change.
func (s *Store) canSeal(ctx context.Context) (can, known bool) {
	s.mu.Lock()
	if g := s.limits; g != nil && time.Since(g.asked) < grantFor {
		s.mu.Unlock()
		return g.can, true
	}
	name := s.opts.ProbeTopic
	for _, p := range s.partitions {
		name = p.topic.Name
		break
	}
	s.mu.Unlock()
	zero := sealedValue
	err := s.alterConfigs(ctx, span.Topic{Name: name}, map[string]*string{configMaxMessage: &zero}, true)
	if errors.Is(err, span.ErrUnavailable) {
		return false, false
	}
	can = err == nil || errors.Is(err, span.ErrGone)
	s.mu.Lock()
	s.limits = &sealGrant{can: can, asked: time.Now()}
	s.mu.Unlock()
	return can, true
}

// kafkaRelease tells about the brokers' release by what they speak: 4.x has Produce by
// topic id from 4.1 on, and 4.0 has no Produce before version 3.
func (s *Store) kafkaRelease() string {
	v, ok := s.produceVersions.Load().([2]int16)
	switch {
	case !ok:
		return ""
	case v[1] >= 13:
		return "4.1 or later"
	case v[0] >= 3:
		return "4.0"
	}
	return "3.x"
}
