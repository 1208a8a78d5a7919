package coordinator

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	registerer prometheus.Registerer
	all        []prometheus.Collector

	records   prometheus.Counter
	bytes     prometheus.Counter
	snapshots prometheus.Counter
	lost      prometheus.Counter
	takeover  prometheus.Histogram

	txnTimeouts prometheus.Counter
	txnTorn     prometheus.Counter
	txnMended   prometheus.Counter
	txnLost     prometheus.Counter
	txnRefused  prometheus.Counter
}

func newMetrics(c *Coordinator, r prometheus.Registerer) *metrics {
	m := &metrics{registerer: r}
	counter := func(name, help string) prometheus.Counter {
		v := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "braid", Subsystem: "coordinator", Name: name, Help: help})
		m.all = append(m.all, v)
		return v
	}
	gauge := func(name, help string, f func() float64) {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "braid", Subsystem: "coordinator", Name: name, Help: help}, f))
	}
	m.records = counter("log_records_total", "Records appended to the logs of shards.")
	m.bytes = counter("log_bytes_total", "Bytes appended to the logs of shards.")
	m.snapshots = counter("snapshots_total", "Snapshots after which the log of a shard was trimmed.")
	m.lost = counter("shards_lost_total", "Shards that were lost rather than handed over.")
	m.txnTimeouts = counter("transactions_timed_out_total", "Transactions that were aborted since their timeout had passed.")
	m.txnTorn = counter("transactions_torn_total", "Parts of committed transactions that their clusters have aborted by themselves.")
	m.txnMended = counter("transactions_mended_total", "Such parts whose records were all appended anew.")
	m.txnLost = counter("transactions_lost_total", "Such parts of which records could not be found any more.")
	m.txnRefused = counter("transactions_refused_records_total", "Records of such parts that their topics refuse by now, which were left out.")
	m.takeover = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "braid", Subsystem: "coordinator", Name: "takeover_seconds",
		Help:    "From the claim of a shard until it answers.",
		Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
	})
	m.all = append(m.all, m.takeover)
	gauge("shards", "Shards that this gateway answers for.", func() float64 { return c.sum(func(s *shard) int { return 1 }) })
	gauge("groups", "Groups in the shards of this gateway.", func() float64 { return c.sum(func(s *shard) int { return len(s.m.groups) }) })
	gauge("transactional_ids", "Transactional ids in the shards of this gateway.", func() float64 { return c.sum(func(s *shard) int { return len(s.m.txns) }) })
	gauge("pending_bytes", "Bytes that wait for the logs of shards.", func() float64 { return c.sum(func(s *shard) int { return s.bytes }) })
	refused := func(what, help string, of *groupCounts) {
		m.all = append(m.all, prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "braid", Subsystem: "coordinator", Name: what + "_refused_total", Help: help},
			func() float64 { return float64(of.refused.Load()) }))
	}
	refused("groups", "New groups that were refused: the tenant has as many as it may, or the name is too long.", &c.counts)
	refused("transactional_ids", "New transactional ids that were refused: the tenant has as many as it may, or the name is too long.", &c.txnCounts)
	refused("bytes", "Requests that were refused since the tenant's groups and transactional ids hold as much as they may, and assignments that wait for room.", &c.held)
	gauge("held_bytes", "What groups and transactional ids in the shards of this gateway hold, about.", func() float64 { return float64(c.held.sum()) })
	if r != nil {
		for _, v := range m.all {
			if err := r.Register(v); err != nil {
				c.logger.Warn("metric not registered", "err", err)
			}
		}
	}
	return m
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, v := range m.all {
		m.registerer.Unregister(v)
	}
}

func (c *Coordinator) sum(of func(s *shard) int) float64 {
	total := 0
	for _, s := range c.owned() {
		s.mu.Lock()
		if s.phase == phaseActive {
			total += of(s)
		}
		s.mu.Unlock()
	}
	return float64(total)
}
