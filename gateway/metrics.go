package gateway

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/braidstream/braid/wire"
)

// metrics of one gateway. Those of the keys are looked up once, since a lookup
// by label costs more than the count.
type metrics struct {
	requests *prometheus.CounterVec
	errors   *prometheus.CounterVec
	latency  *prometheus.HistogramVec

	byKey [maxKey]keyMetrics

	bytesIn     prometheus.Counter
	bytesOut    prometheus.Counter
	connections *prometheus.GaugeVec
	accepted    *prometheus.CounterVec
	ended       *prometheus.CounterVec
	denied      *prometheus.CounterVec

	authentications *prometheus.CounterVec
	throttled       prometheus.Counter
	refused         prometheus.Counter
}

type keyMetrics struct {
	requests prometheus.Counter
	latency  prometheus.Observer
	errors   [256]atomic.Pointer[prometheus.Counter]
}

func newMetrics(g *Gateway, reg prometheus.Registerer) *metrics {
	const ns, sub = "braid", "gateway"
	opts := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(opts("requests_total", "Requests that were answered, by API."), []string{"api"}),
		errors:   prometheus.NewCounterVec(opts("errors_total", "Error codes in answers, by API and code."), []string{"api", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "request_seconds",
			Help:    "From a request's arrival to its answer, long polls and all, by API.",
			Buckets: []float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}}, []string{"api"}),
		bytesIn:  prometheus.NewCounter(opts("received_bytes_total", "Bytes received from clients.")),
		bytesOut: prometheus.NewCounter(opts("sent_bytes_total", "Bytes sent to clients.")),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "connections",
			Help: "Open client connections, by listener."}, []string{"listener"}),
		accepted:  prometheus.NewCounterVec(opts("connections_total", "Connections by listener and what became of them: served, refused."), []string{"listener", "outcome"}),
		throttled: prometheus.NewCounter(opts("throttled_total", "Answers that told a client to wait, since it exceeded a quota.")),
		refused:   prometheus.NewCounter(opts("connections_over_limit_total", "Connections that were ended since their tenant had as many as its limit allows.")),
		denied:    prometheus.NewCounterVec(opts("denied_total", "Requests for what an ACL does not allow, by resource type."), []string{"type"}),
		authentications: prometheus.NewCounterVec(opts("authentications_total",
			"Authentications by listener, mechanism (TLS for certificates and failed handshakes) and what became of them: succeeded, failed."),
			[]string{"listener", "mechanism", "outcome"}),
		ended: prometheus.NewCounterVec(opts("connections_ended_total", "Connections that ended, by reason: quiet, bad."), []string{"reason"}),
	}
	for i := range g.apis.list {
		name := apiName(g.apis.list[i].key)
		k := &m.byKey[g.apis.list[i].key]
		k.requests, k.latency = m.requests.WithLabelValues(name), m.latency.WithLabelValues(name)
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.errors, m.latency, m.bytesIn, m.bytesOut, m.connections, m.accepted, m.ended, m.denied, m.throttled, m.refused, m.authentications,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "unauthenticated_connections",
				Help: "Connections that are not authenticated yet and have to be."}, func() float64 {
				g.mu.Lock()
				defer g.mu.Unlock()
				return float64(g.unknown)
			}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "inflight_bytes",
				Help: "Bytes of Produce requests that are being worked on."}, func() float64 { return float64(g.budget.used.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "arriving_bytes",
				Help: "Memory of requests over 64 KiB that are not whole yet, or are worked on and are no Produce requests."},
				func() float64 { return float64(g.arriving.used.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "fetch_sessions",
				Help: "Fetch sessions."}, func() float64 { return float64(g.sessionSlots.sessions.Used()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "fetch_session_partitions",
				Help: "Partitions in fetch sessions."}, func() float64 { return float64(g.sessionSlots.parts.Used()) }))
	}
	if reg != nil {
		for _, l := range g.listeners {
			if l.certs == nil {
				continue
			}
			reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "certificate_expiry_timestamp_seconds",
				Help: "When a listener's certificate expires, in seconds since 1970.", ConstLabels: prometheus.Labels{"listener": l.cfg.Name}},
				func() float64 { return float64(l.certs.expires.Load()) }),
				prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "certificate_refused",
					Help: "1 while a listener's certificate files cannot be taken as they are, and the former ones serve on.", ConstLabels: prometheus.Labels{"listener": l.cfg.Name}},
					func() float64 {
						if l.certs.why() != "" {
							return 1
						}
						return 0
					}))
		}
	}
	return m
}

// served counts an answer.
func (m *metrics) served(key int16, start time.Time) {
	k := &m.byKey[key]
	k.requests.Inc()
	k.latency.Observe(time.Since(start).Seconds())
}

// failed counts an error code in an answer.
func (m *metrics) failed(key int16, code wire.Code) {
	if code == wire.None || key < 0 || key >= maxKey {
		return
	}
	k := &m.byKey[key]
	slot := int(code) + 1
	if slot < 0 || slot >= len(k.errors) {
		m.errors.WithLabelValues(apiName(key), strconv.Itoa(int(code))).Inc()
		return
	}
	c := k.errors[slot].Load()
	if c == nil {
		made := m.errors.WithLabelValues(apiName(key), code.Name())
		c = &made
		k.errors[slot].Store(c)
	}
	(*c).Inc()
}
