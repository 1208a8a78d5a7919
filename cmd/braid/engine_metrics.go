package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid/span/local"
)

// engineMetrics shows a local cluster's counters.
type engineMetrics struct {
	store *local.Store
	descs []*prometheus.Desc
}

func newEngineMetrics(name string, store *local.Store) *engineMetrics {
	m := &engineMetrics{store: store}
	for _, d := range [][2]string{
		{"syncs_total", "Syncs of the shared log."},
		{"sync_seconds_total", "Time spent in syncs of the shared log."},
		{"appended_bytes_total", "Bytes of batches appended."},
		{"written_bytes_total", "Bytes written to the shared log, segments and checkpoints: over appended bytes, the write amplification."},
		{"backlog_bytes", "Bytes of the shared log that a start would replay."},
		{"queued_bytes", "Bytes of appends that wait to be written."},
		{"open_segments", "Open segment files."},
		{"full", "1 while appends are refused for lack of space."},
	} {
		m.descs = append(m.descs, prometheus.NewDesc("braid_local_"+d[0], d[1], nil, prometheus.Labels{"cluster": name}))
	}
	return m
}

// Describe implements [prometheus.Collector].
func (m *engineMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *engineMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.store.Stats()
	full := 0.0
	if s.Full {
		full = 1
	}
	for i, v := range []struct {
		kind  prometheus.ValueType
		value float64
	}{
		{prometheus.CounterValue, float64(s.Syncs)},
		{prometheus.CounterValue, s.SyncTime.Seconds()},
		{prometheus.CounterValue, float64(s.Appended)},
		{prometheus.CounterValue, float64(s.LogBytes + s.SegmentBytes + s.CheckpointBytes)},
		{prometheus.GaugeValue, float64(s.Backlog)},
		{prometheus.GaugeValue, float64(s.Queued)},
		{prometheus.GaugeValue, float64(s.OpenSegments)},
		{prometheus.GaugeValue, full},
	} {
		ch <- prometheus.MustNewConstMetric(m.descs[i], v.kind, v.value)
	}
}
