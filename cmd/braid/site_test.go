package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/braidstream/braid/console/api"
	"github.com/braidstream/braid/internal/testkit"
)

// site is a real Kafka cluster that the fleet knows by a proxy's address, so that its
// answers can be kept from the fleet.
type site struct {
	name   string
	kafka  *testkit.Cluster
	proxy  *testkit.Proxy
	direct *kadm.Client // around the proxy
}

func startSite(t testing.TB, name string) *site {
	t.Helper()
	proxy, err := testkit.StartProxy("127.0.0.1:1") // the target follows: each must know the other's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	k := testkit.Kafka(t, testkit.Advertise(1, proxy.Addr()))
	proxy.SetTarget(k.Addrs()[0])
	// Whatever address the broker tells.
	direct := kadm.NewClient(k.Client(t, kgo.Dialer(func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, k.Addrs()[0])
	})))
	return &site{name: name, kafka: k, proxy: proxy, direct: direct}
}

// join puts the sites behind a fleet.
func (r *running) join(sites ...*site) {
	r.t.Helper()
	for _, s := range sites {
		r.must("cluster", "add", s.name, "--bootstrap", s.proxy.Addr())
	}
}

// loseWithLonely kills the site after a record of each topic was stranded on it, whose producer is
// gone; it returns them.
func (r *running) loseWithLonely(s *site, loads []*load, topics ...string) (stranded map[string]string) {
	r.t.Helper()
	for _, l := range loads {
		l.pause()
	}
	for ok := false; !ok; {
		stranded, ok = r.strand(s.proxy, s.direct, topics...)
	}
	r.vanish(s)
	for _, l := range loads {
		l.resume()
	}
	return stranded
}

// loseUnanswered kills the site after its last answers to the loads did not arrive.
func (r *running) loseUnanswered(s *site, loads []*load) {
	r.t.Helper()
	s.proxy.Stall(testkit.Down)
	for _, l := range loads {
		for _, x := range l.topics {
			sent := x.sent()
			eventually(r.t, patience, "more is sent", func() bool { return x.sent() >= sent+20 })
		}
	}
	r.vanish(s)
}

func (r *running) vanish(s *site) {
	r.t.Helper()
	if err := s.kafka.Kill(); err != nil {
		r.t.Fatal(err)
	}
	s.proxy.Reset()
	if err := s.proxy.Heal(); err != nil {
		r.t.Fatal(err)
	}
}

// goOnWithout waits until the topics of the loads are written and read elsewhere.
func (r *running) goOnWithout(s *site, loads []*load) {
	r.t.Helper()
	for _, l := range loads {
		for _, x := range l.topics {
			eventually(r.t, patience, "topic "+x.name+" leaves "+s.name, func() bool { return !slices.Contains(r.openOn(x.name), s.name) })
			x.goesOn(r.t, "without "+s.name, patience)
		}
	}
}

// giveBack starts the site again.
func (r *running) giveBack(s *site) {
	r.t.Helper()
	if err := s.kafka.Start(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// tookIn waits until what the topics left on a cluster is readable again.
func (r *running) tookIn(cluster string, topics ...string) {
	r.t.Helper()
	for _, name := range topics {
		eventually(r.t, patience, "the records of topic "+name+" on "+cluster+" are back", func() bool {
			d := r.topic(name)
			for _, p := range d.Partitions {
				for _, s := range p.Spans {
					if s.Copies[0].Cluster == cluster && !s.Copies[0].Readable {
						return false
					}
				}
			}
			return d.Moving == nil
		})
	}
}

// certified waits for the last word on all that became of a topic, and holds it against what is so:
// nothing was lost, doubled or out of order.
func (r *running) certified(name string) []api.Certificate {
	r.t.Helper()
	var list []api.Certificate
	eventually(r.t, patience, "the last certificates of topic "+name, func() bool {
		list = r.topic(name).Certificates
		return !slices.ContainsFunc(list, func(c api.Certificate) bool {
			return slices.ContainsFunc(c.Partitions, func(p api.CertifiedRecord) bool {
				return slices.ContainsFunc(p.Checked, func(s string) bool { return strings.HasPrefix(s, "to come") })
			})
		})
	})
	for _, c := range list {
		for _, p := range c.Partitions {
			if n := counted(p.Lost, p.Duplicated, p.Reordered, p.Stray); n > 0 || p.Verdict == "violated" {
				r.t.Errorf("topic %s: %s from %s: %+v", name, c.Kind, c.From, p)
			}
		}
	}
	return list
}
