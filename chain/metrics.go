package chain

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the Logs do. Bytes are of batches.
type Metrics struct {
	HeldAppends  prometheus.Gauge
	HeldBytes    prometheus.Gauge
	HeldSeconds  prometheus.Histogram
	HoldsExpired prometheus.Counter
	Reroutes     prometheus.Counter
	Duplicates   prometheus.Counter
	CacheBytes   prometheus.Gauge
	CacheHits    prometheus.Counter // bytes served from the tail cache
	CacheMisses  prometheus.Counter // bytes read from copies for readers
	FeedBytes    prometheus.Counter // bytes read from copies to feed the tail cache
	Refreshes    prometheus.Counter
	// Bounds that were met; what that costs is said where they are counted.
	DoubtsFull   prometheus.Counter
	ExpectedFull prometheus.Counter
}

// NewMetrics makes the metrics and registers them; reg may be nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "braid", Subsystem: "chain", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "braid", Subsystem: "chain", Name: name, Help: help})
	}
	m := &Metrics{
		HeldAppends: gauge("held_appends", "Appends that wait for a chain to change."),
		HeldBytes:   gauge("held_bytes", "Bytes of appends that wait for a chain to change."),
		HeldSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "braid", Subsystem: "chain", Name: "held_seconds",
			Help: "How long appends were held.", Buckets: []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 5, 30}}),
		HoldsExpired: counter("holds_expired_total", "Appends that were held too long or past the bound in bytes."),
		Reroutes:     counter("reroutes_total", "Appends that were sent to another span than at first."),
		Duplicates:   counter("duplicates_total", "Appends that were in the chain before."),
		CacheBytes:   gauge("cache_bytes", "Size of the tail cache."),
		CacheHits:    counter("cache_hit_bytes_total", "Bytes served from the tail cache."),
		CacheMisses:  counter("cache_miss_bytes_total", "Bytes read from copies for readers."),
		FeedBytes:    counter("feed_bytes_total", "Bytes read from copies to feed the tail cache."),
		Refreshes:    counter("refreshes_total", "Linearizable reads of chains."),
		DoubtsFull:   counter("doubts_full_total", "Appends of unknown outcome that were not kept apart by producer, because too many were."),
		ExpectedFull: counter("expected_full_total", "Batches that were sent back and not kept in mind by producer, because too many were: other producers' batches wait for a moment."),
	}
	if reg != nil {
		reg.MustRegister(m.HeldAppends, m.HeldBytes, m.HeldSeconds, m.HoldsExpired, m.Reroutes, m.Duplicates,
			m.CacheBytes, m.CacheHits, m.CacheMisses, m.FeedBytes, m.Refreshes, m.DoubtsFull, m.ExpectedFull)
	}
	return m
}
