package usage

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("braid_tenant_"+name, help, []string{"tenant"}, nil)
}

var (
	receivedDesc  = describe("received_bytes_total", "Bytes received from a tenant's clients, since the process began.")
	sentDesc      = describe("sent_bytes_total", "Bytes sent to a tenant's clients, since the process began.")
	requestsDesc  = describe("requests_total", "Requests of a tenant's clients, since the process began.")
	openedDesc    = describe("connections_total", "Connections of a tenant's clients that were opened, since the process began.")
	openDesc      = describe("connections", "Connections of a tenant's clients that are open.")
	inflightDesc  = describe("inflight_bytes", "Bytes of requests of a tenant's producers that are being worked on.")
	answeringDesc = describe("answering_bytes", "Bytes of records on their way to a tenant's consumers.")
	waitsDesc     = describe("turns_waited_total", "Requests of a tenant's clients that waited for the turn of their tenant, since the process began.")
	waitedDesc    = describe("turns_waited_seconds_total", "How long requests of a tenant's clients waited for the turn of their tenant, since the process began.")
	partitionDesc = describe("partitions", "Partitions of a tenant's topics; told by the leading controller.")
	storedDesc    = describe("stored_bytes", "Bytes that a tenant's topics hold, of one copy, as last measured; told by the leading controller.")
)

// Describe implements [prometheus.Collector].
func (l *Ledger) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{receivedDesc, sentDesc, requestsDesc, openedDesc, openDesc, inflightDesc, answeringDesc, waitsDesc, waitedDesc} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (l *Ledger) Collect(ch chan<- prometheus.Metric) {
	for _, name := range l.Tenants() {
		a := l.Find(name)
		count := func(d *prometheus.Desc, n int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), name)
		}
		count(receivedDesc, a.received.Load())
		count(sentDesc, a.sent.Load())
		count(requestsDesc, a.requests.Load())
		count(openedDesc, a.opened.Load())
		count(waitsDesc, a.waits.Load())
		gauge := func(d *prometheus.Desc, n int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), name)
		}
		gauge(openDesc, a.open.Load())
		gauge(inflightDesc, a.InFlight())
		gauge(answeringDesc, a.Answering(0))
		ch <- prometheus.MustNewConstMetric(waitedDesc, prometheus.CounterValue, time.Duration(a.waited.Load()).Seconds(), name)
	}
}

// Describe implements [prometheus.Collector].
func (h *Holdings) Describe(ch chan<- *prometheus.Desc) {
	ch <- partitionDesc
	ch <- storedDesc
}

// Collect implements [prometheus.Collector].
func (h *Holdings) Collect(ch chan<- prometheus.Metric) {
	h.each(func(tenant string, partitions, bytes int64) {
		ch <- prometheus.MustNewConstMetric(partitionDesc, prometheus.GaugeValue, float64(partitions), tenant)
		ch <- prometheus.MustNewConstMetric(storedDesc, prometheus.GaugeValue, float64(bytes), tenant)
	})
}
